// Package oci reads container images as a source of files: it chooses the image of a platform, checks
// every blob against its digest, and flattens the layers into one tree. It runs nothing, needs no root and
// knows no network: bytes come from who calls.
//
// The formats are those of the OCI Image Format Specification 1.1 (image-index.md, manifest.md, config.md,
// layer.md) and the same documents under Docker's media types (manifest v2, schema 2). An image is named
// by digest only, and only SHA-256 is known: a tag says what somebody thinks today.
//
// # What is taken
//
// Of the configuration: platform and diff IDs. What it says should run, as whom and with which
// environment is not used: what runs in an enclave image stands in its spec. Of a layer: directories, files,
// symbolic and hard links, FIFOs, with mode, numeric owner, time in whole seconds, and the extended
// attributes security.capability and user.*.
//
// # Layers
//
// Layers are applied in order. In each, the whiteouts come first and act on the layers below alone, wherever
// they stand in the archive: ".wh.NAME" removes NAME, ".wh..wh..opq" removes all that its directory holds.
// A whiteout below what is no directory is passed over where the layer puts a directory there, and refused elsewhere.
// Then the entries: a directory upon a directory changes its attributes and keeps what is in it; everything
// else replaces what is there. A directory that no entry describes has mode 0755 and owner 0:0.
// A name of a hard link keeps the file even when the other name is removed or replaced above.
//
// Refused, with layer and path: a path with ".." or of another form than "./a/b", "a/b" or "/a/b"; an entry
// below what is not a directory (so nothing is written through a link); an entry twice in a layer; a
// hard link to what is not there; a device node, unless the caller declares it; a sparse file and any
// other extended header that is not known; other extended attributes; unknown whiteouts; a layer whose compression is
// not that of its media type, whose bytes have not its digest and size, or whose content has not its diff ID.
package oci
