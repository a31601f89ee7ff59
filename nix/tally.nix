# The command. The version is passed in; nothing else of the checkout's history is in it.
{ pkgs, version, src, vendorHash }:
(pkgs.buildGoModule.override { go = pkgs.go_1_26; }) {
  pname = "tally";
  inherit version src vendorHash;
  subPackages = [ "cmd/tally" "cmd/tally-keyless" ];
  env.CGO_ENABLED = "0";
  ldflags = [ "-X main.version=${version}" ]; # buildGoModule adds -trimpath and -buildid=
  doCheck = false; # the tests need Debian's packages and QEMU: make test
  postInstall = ''
    $out/bin/tally man $out/share/man/man1
  '';
  meta = {
    description = "Build, measure, release, rebuild and verify confidential-AI enclave images";
    license = pkgs.lib.licenses.asl20;
    mainProgram = "tally";
  };
}
