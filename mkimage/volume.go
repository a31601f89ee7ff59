package mkimage

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"io"

	"tally/mkimage/disk"
	"tally/mkimage/erofs"
	"tally/mkimage/internal/fanout"
	"tally/verity"
)

// A VolumeFile is where a volume is written: an *os.File, empty.
type VolumeFile interface {
	io.WriterAt
	io.ReaderAt
	Truncate(size int64) error
}

// WriteVolume writes the volume of a model to f, front to back, and describes it and its file; f is not
// closed. epoch is the image's, in seconds since 1970.
//
// It is one pass: everything in front of the data is known before, so that the file's own SHA-256, the hash
// tree and the check of each source against its declared SHA-256 are made of the same read, on two cores.
// Each source is read once; of what was written, the hash area alone (1/128 of the data) is read again,
// because its first block is its last to be known. Memory does not grow with the volume. After an error
// f holds no volume.
func WriteVolume(ctx context.Context, f VolumeFile, in ModelInput, epoch int64) (Model, Artifact, error) {
	v, err := planVolume(in, epoch)
	if err != nil {
		return Model{}, Artifact{}, err
	}
	return v.write(ctx, f)
}

// A volume is one model volume whose every place is decided.
type volume struct {
	*disk.Volume
	name, mount, file string
	image             *erofs.Image
	p                 verity.Params
	hashSize          int64 // bytes
	data, hash        [16]byte
}

// planVolume decides everything that is no byte of a file.
func planVolume(in ModelInput, epoch int64) (*volume, error) {
	if !nameForm.MatchString(in.Name) || in.Tree == nil {
		return nil, fmt.Errorf("model %.80q: want a plain name and files", in.Name)
	}
	image, err := erofs.Plan(in.Tree, erofs.Options{Epoch: epoch, Label: in.Name[:min(16, len(in.Name))]})
	if err != nil {
		return nil, err
	}
	v := &volume{name: in.Name, mount: in.Mount, file: "models/" + in.Name + ".raw", image: image, p: verityParams(in.Name, image)}
	if v.hashSize, err = verity.HashFileSize(v.p); err != nil {
		return nil, err
	}
	v.data, v.hash = volumeID(in.Name, "data", image, epoch), volumeID(in.Name, "data-verity", image, epoch)
	v.Volume, err = disk.PlanVolume(disk.VolumeSpec{Name: in.Name, DataSize: image.Size(), HashSize: v.hashSize, DataID: v.data, HashID: v.hash})
	return v, err
}

// volumeID is the PARTUUID of a part of a volume. It depends on all that the root hash depends on (name,
// files with their hashes, epoch), so that two volumes have the same one only if they have the same root
// hash; and on nothing that is known only when the files have been read.
func volumeID(name, part string, image *erofs.Image, epoch int64) [16]byte {
	fs := image.UUID()
	return uuid8(derive("volume part", []byte(name), []byte(part), fs[:], binary.LittleEndian.AppendUint64(nil, uint64(epoch))))
}

// partitions is the value of tally.partitions in ModelsFile.
func (v *volume) partitions() string {
	return verity.FormatUUID(v.data) + "," + verity.FormatUUID(v.hash)
}

func (v *volume) write(ctx context.Context, f VolumeFile) (Model, Artifact, error) {
	w := &volumeWriter{f: f, sum: sha256.New()}
	root, err := w.write(ctx, v)
	if err != nil {
		return Model{}, Artifact{}, err
	}
	return Model{Name: v.name, File: v.file, Mount: v.mount, Verity: describe(v.p, root, v.hashSize)},
		Artifact{Name: v.file, Role: "model", SHA256: Digest(w.sum.Sum(nil)), Size: v.Size}, nil
}

// A volumeWriter hashes a file while it writes it.
type volumeWriter struct {
	f   VolumeFile
	sum hash.Hash // of the file up to at
	at  int64
}

func (w *volumeWriter) write(ctx context.Context, v *volume) (root verity.RootHash, err error) {
	head, tail, err := v.Table()
	if err != nil {
		return root, err
	}
	if err := w.f.Truncate(v.Size); err != nil { // what is not written below reads as zero
		return root, err
	}
	if err := w.put(head); err != nil {
		return root, err
	}
	if root, err = w.putData(ctx, v); err != nil {
		return root, err
	}
	if err := w.addHashArea(ctx, v); err != nil {
		return root, err
	}
	w.addZeros(v.Size - int64(len(tail)))
	return root, w.put(tail)
}

// put writes bytes at the place that the hash has come to, and adds them to it.
func (w *volumeWriter) put(b []byte) error {
	if _, err := w.f.WriteAt(b, w.at); err != nil {
		return err
	}
	w.add(b)
	return nil
}

// putData writes the file system and, in the same pass, its hash tree.
func (w *volumeWriter) putData(ctx context.Context, v *volume) (verity.RootHash, error) {
	w.addZeros(v.Data.Offset)
	tree, err := verity.NewWriter(io.NewOffsetWriter(w.f, v.Hash.Offset), v.p)
	if err != nil {
		return verity.RootHash{}, err
	}
	n, err := v.image.WriteTo(ctx, fanout.Writer{io.NewOffsetWriter(w.f, v.Data.Offset), tree, w.sum})
	w.at += n
	root, cerr := tree.Close()
	if err != nil {
		return verity.RootHash{}, err
	}
	return root, cerr
}

// addHashArea adds the finished hash tree, which lies in the file.
func (w *volumeWriter) addHashArea(ctx context.Context, v *volume) error {
	w.addZeros(v.Hash.Offset)
	if err := copyCtx(ctx, w.sum, io.NewSectionReader(w.f, v.Hash.Offset, v.hashSize)); err != nil {
		return fmt.Errorf("hash tree: %w", err)
	}
	w.at += v.hashSize
	return nil
}

// addZeros adds the hole up to an offset: at most 1 MiB each time.
func (w *volumeWriter) addZeros(to int64) { w.add(make([]byte, to-w.at)) }

func (w *volumeWriter) add(b []byte) {
	w.sum.Write(b)
	w.at += int64(len(b))
}
