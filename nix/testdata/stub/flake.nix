# What the flake uses of nixpkgs, over the programs of the machine that tests it (--impure): STUB_PATH finds
# them, STUB_STORE holds what fetchurl would fetch, by SHA-256, and STUB_GO is the go command's environment.
{
  outputs = _:
    let
      env = builtins.getEnv;
      lib = {
        fetchers.proxyImpureEnvVars = [ ];
        licenses.asl20 = "Apache-2.0";
        concatMapStrings = f: l: builtins.concatStringsSep "" (map f l);
      };
      tool = { inherit lib; outPath = "/"; };
      pkgs = system:
        let
          run = name: attrs: script:
            let
              d = derivation (removeAttrs attrs [ "passthru" "nativeBuildInputs" "impureEnvVars" ] // {
                inherit name system;
                builder = "/bin/sh";
                PATH = builtins.concatStringsSep ":" (map (p: "${p}/bin") (builtins.filter builtins.isAttrs (attrs.nativeBuildInputs or [ ])) ++ [ (env "STUB_PATH") ]);
                args = [ "-c" "set -eu; export TMPDIR=$PWD ${env "STUB_GO"}\n${script}" ];
              });
            in d // (attrs.passthru or { });
        in {
          inherit lib;
          runCommand = run;
          go_1_26 = tool;
          cacert = tool;
          qemu = tool;
          cryptsetup = tool;
          erofs-utils = tool;
          gptfdisk = tool;
          dosfstools = tool;
          mtools = tool;
          swtpm = tool;
          mkShell = a: run "shell" { } "echo ${toString (builtins.length a.packages)} > $out";
          fetchurl = { name, url, sha256 }:
            assert builtins.substring 0 9 url == "mirror://";
            run name { outputHashMode = "flat"; outputHashAlgo = "sha256"; outputHash = sha256; } "cp ${env "STUB_STORE"}/${sha256} $out";
          # Like the real one: the modules come from a fixed-output derivation that vendors them, and are all
          # that the build has; -buildid= is added, with a warning to who does; CGO_ENABLED is read from env alone.
          buildGoModule = {
            __functor = _: a:
              let
                goModules = run "${a.pname}-${a.version}-go-modules" { outputHashMode = "recursive"; outputHashAlgo = "sha256"; outputHash = a.vendorHash; } ''
                  export HOME=$TMPDIR
                  cp -r ${a.src} source
                  chmod -R u+w source
                  cd source
                  go mod vendor
                  cp -r vendor $out
                '';
              in assert !(builtins.elem "-buildid=" a.ldflags) && !(a ? CGO_ENABLED); run "${a.pname}-${a.version}" { } ''
                export HOME=$TMPDIR CGO_ENABLED=${a.env.CGO_ENABLED} GOFLAGS="-buildvcs=false -mod=vendor -trimpath"
                cp -r ${a.src} source
                chmod -R u+w source
                cd source
                cp -r ${goModules} vendor
                mkdir -p $out/bin
                go build -ldflags '${toString (a.ldflags ++ [ "-buildid=" ])}' -o $out/bin/ ${toString (map (p: "./" + p) a.subPackages)}
                ${a.postInstall}
              '';
            override = o: assert o.go == tool; { pname, version, src, vendorHash, ... }@a:
              (pkgs system).buildGoModule a;
          };
        };
    in {
      legacyPackages = builtins.listToAttrs (map (s: { name = s; value = pkgs s; }) [ "x86_64-linux" "aarch64-linux" "x86_64-darwin" "aarch64-darwin" ]);
    };
}
