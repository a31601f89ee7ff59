# An example image: `tally build --offline` on inputs that Nix fetched by the hashes of image.lock.
{ pkgs, name, src, tally, goHash }:
let
  lock = builtins.fromJSON (builtins.readFile (src + "/examples/${name}/image.lock"));

  # Packages by pool path and SHA-256, from nixpkgs' own list of mirrors. An archive without a list there
  # cannot be had this way: nixpkgs then says so.
  archive = builtins.listToAttrs (map (s: { inherit (s) name; value = s.archive; }) lock.suites);
  packages = map
    (p: {
      name = p.sha256;
      path = pkgs.fetchurl {
        name = "${p.name}.deb"; # a version's ~ is no character of a store path
        url = "mirror://${archive.${p.suite}}/${p.path}";
        inherit (p) sha256;
      };
    })
    lock.packages;

  # The pinned Go release and the modules of the guest's programs, as files of a module proxy. The lock
  # holds the checksums of the module system, which Nix cannot check: tally does, and Nix has its own hash.
  wanted = map (m: "${m.path}@${m.version}") lock.modules
    ++ map (t: "golang.org/toolchain@v0.0.1-${t.version}.${t.platform}") lock.toolchains;
  proxy = pkgs.runCommand "tally-${name}-go"
    {
      nativeBuildInputs = [ pkgs.go_1_26 pkgs.cacert ];
      impureEnvVars = pkgs.lib.fetchers.proxyImpureEnvVars ++ [ "GOPROXY" ];
      outputHashMode = "recursive";
      outputHashAlgo = "sha256";
      outputHash = goHash;
    } ''
    export HOME=$TMPDIR GOMODCACHE=$TMPDIR/modules GOTOOLCHAIN=local GOFLAGS=-modcacherw
    cd $TMPDIR
    go mod download ${toString wanted}
    cd modules/cache/download
    find . -name '*.zip' -o -name '*.mod' | while read -r f; do
      mkdir -p "$out/$(dirname "$f")"
      cp "$f" "$out/$f"
      v=$(basename "''${f%.*}")
      printf '{"Version":"%s"}\n' "$v" > "$out/''${f%.*}.info"
    done
  '';

  # build FLAGS: the commands that leave the image in the directory image.
  build = flags: ''
    export HOME=$TMPDIR/home
    mkdir -p $HOME cache/sha256
    ${pkgs.lib.concatMapStrings (p: "ln -s ${p.path} cache/sha256/${p.name}\n") packages}
    ln -s ${proxy} cache/goproxy
    cp -r ${src} source
    chmod -R u+w source
    tally build source/examples/${name}/image.yaml --offline --cache cache ${flags} -o image
  '';
  env.nativeBuildInputs = [ tally pkgs.go_1_26 ];
in
pkgs.runCommand "tally-image-${name}"
  (env // {
    passthru.twice = pkgs.runCommand "tally-image-${name}-twice" env (build "--twice" + "cp image/manifest.json $out\n");
  })
  (build "" + "cp -r image $out\n")
