// Package compare says where two images differ and, in words, why.
//
// Two output directories of a build, two images (disk, unified kernel image, initrd, EROFS) or two directory
// trees are taken apart side by side: artefacts, inputs, partition table, ESP, UKI sections, cpio and EROFS
// entries, verity parameters. Each difference names the path, the field, both values, the input that the path
// comes from and a likely cause; consequences of other differences (a root hash, a partition's GUID that derives
// from it) are marked as such. Last come the names of the measurement registers that move: their values come
// from package measure, which this package does not know.
//
// Files compressed with gzip, xz or zstd are explained by what is in them.
//
// The verdict is bytes. Two things are equal when all their bytes are, and for nothing else: a hash tree is held
// against the data and used to say where, and never to say that. Whatever cannot be read is compared as bytes, and
// a note says so. Every reader here is of foreign bytes and shares no code with the writers in mkimage.
//
// A Report has a JSON form, tally.compare/v1, which is specified by the types in report.go.
package compare
