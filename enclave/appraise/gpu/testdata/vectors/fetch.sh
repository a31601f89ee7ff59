#!/bin/sh
# Makes the vectors again from clones of the repositories that the SOURCE files name, at their commits, and
# compares them with the sums there.
#   fetch.sh NVTRUST ATTESTATION_SDK GO_NVTRUST GO_NVATTEST_TOOLS TRUSTEE OUT      (git directories, and a new directory)
set -eu
[ $# = 6 ] || { sed -n 2,4p "$0" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
out=$6
mkdir "$out"

# vectors DIR CLONE FOLDER…: every file that DIR/SOURCE lists, from the first folder of the commit that has it
vectors() {
	dir=$1 clone=$2
	shift 2
	commit=$(sed -n '1s/.*commit \([0-9a-f]*\):$/\1/p' "$here/$dir/SOURCE")
	sed -n 's/^[0-9a-f]\{64\}  //p' "$here/$dir/SOURCE" | while read -r name; do
		mkdir -p "$(dirname "$out/$dir/$name")"
		for folder in "$@"; do
			git --git-dir="$clone" show "$commit:$folder/$name" >"$out/$dir/$name" 2>/dev/null && break
		done
		[ -s "$out/$dir/$name" ] || { echo "fetch.sh: $dir/$name: in none of $*" >&2; exit 1; }
	done
	sed -n '/^[0-9a-f]\{64\}  /p' "$here/$dir/SOURCE" | (cd "$out/$dir" && sha256sum -c --quiet -)
}

v=guest_tools/gpu_verifiers/local_gpu_verifier/src/verifier
t=nv-attestation-sdk-cpp/unit-tests/testdata
vectors nvtrust "$1" $v/samples $v/certs guest_tools/ppcie-verifier-sdk-cpp/tests/data
vectors attestation-sdk "$2" $t $t/sample_rims $t/sample_attestation_data common-test-data/serialized_test_evidence
vectors go-nvtrust "$3" pkg/gonvtrust/mocks
vectors go-nvattest-tools "$4" testing/testdata
vectors trustee "$5" deps/verifier/test_data/nvidia rvps/src/extractors/swid
