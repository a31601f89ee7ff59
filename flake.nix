# The command, the example images and a development shell for users of Nix: see nix/README.md.
{
  description = "tally: build, measure, release, rebuild and verify confidential-AI enclave images";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs = { self, nixpkgs }:
    let
      systems = [ "x86_64-linux" "aarch64-linux" "x86_64-darwin" "aarch64-darwin" ];
      forAll = f: builtins.listToAttrs (map (s: { name = s; value = f nixpkgs.legacyPackages.${s}; }) systems);
      hashes = builtins.fromJSON (builtins.readFile ./nix/hashes.json);
      version = self.shortRev or "dirty";
      tally = pkgs: import ./nix/tally.nix { inherit pkgs version; src = self; vendorHash = hashes.vendor; };
      image = pkgs: name: import ./nix/image.nix {
        inherit pkgs name;
        src = self;
        tally = tally pkgs;
        goHash = hashes.go.${name};
      };
      images = pkgs: builtins.listToAttrs
        (map (n: { name = "image-${n}"; value = image pkgs n; }) (builtins.attrNames hashes.go));
    in {
      packages = forAll (pkgs: { default = tally pkgs; tally = tally pkgs; } // images pkgs);

      devShells = forAll (pkgs: {
        default = pkgs.mkShell {
          packages = with pkgs; [ go_1_26 qemu cryptsetup erofs-utils gptfdisk dosfstools mtools swtpm ];
        };
      });

      # `nix flake check` builds the command, runs it, and builds the smallest image a second time.
      checks = forAll (pkgs: {
        tally = tally pkgs;
        version = pkgs.runCommand "tally-version" { nativeBuildInputs = [ (tally pkgs) ]; } ''
          tally --version | grep -F ${version} > $out
        '';
        twice = (image pkgs "minimal").twice;
      });
    };
}
