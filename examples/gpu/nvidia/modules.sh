#!/bin/sh
# Compiles nvidia.ko and nvidia-uvm.ko for the one kernel whose headers are in the build root. Run by image.yaml.
set -eu
set -- /usr/lib/modules/*
[ $# = 1 ] || { echo "headers of $# kernels, want those of one: $*"; exit 1; }
headers=$1/build
# GCC plugins of the kernel put a seed of their own into what they compile (latent entropy, randomised structures).
if grep -E '^CONFIG_(GCC_PLUGIN_LATENT_ENTROPY|RANDSTRUCT)=y' "$headers/.config"; then
	echo "the kernel's configuration makes every build of a module differ"
	exit 1
fi
# Debian makes this link by a maintainer script.
mkdir bin
ln -s /usr/bin/mawk bin/awk
PATH=/build/bin:$PATH
tar xJf /usr/src/nvidia-open-kernel.tar.xz
cd modules/nvidia-open-kernel
# The locked kernel's function wants to know which BARs to leave alone: none. The driver is older than that.
if grep -q 'int exclude_bars' "$1/source/include/linux/pci.h"; then
	sed -i 's/pci_resize_resource(pci_dev, NV_GPU_BAR1, requested_size)/pci_resize_resource(pci_dev, NV_GPU_BAR1, requested_size, 0)/' nvidia/nv-pci.c
fi
# Compilers write the directory they work in and the names of sources into what they make; here it is always /build. BTF
# is left out: pahole makes it with as many threads as there are, and nothing here reads it.
make -j"$(nproc)" modules SYSSRC="$1/source" SYSOUT="$headers" NV_KERNEL_MODULES="nvidia nvidia-uvm" CONFIG_DEBUG_INFO_BTF_MODULES=
# What is for debuggers is nine tenths of the core. What the kernel's loader needs stays.
for m in nvidia nvidia-uvm; do
	strip --strip-unneeded --remove-section=.comment --remove-section=.note.GNU-stack -o "/build/$m.ko" "$m.ko"
done
