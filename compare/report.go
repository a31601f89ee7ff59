package compare

// Schema names the JSON form of a Report.
const Schema = "tally.compare/v1"

// A Report is the answer of Compare. Fields may be added; the ones here keep their meaning.
type Report struct {
	Schema      string       `json:"schema"`
	Equal       bool         `json:"equal"`
	Reason      string       `json:"reason,omitempty"` // "bytes" when not equal
	A           string       `json:"a"`                // as the caller names them
	B           string       `json:"b"`
	Kind        string       `json:"kind"`        // output, tree, disk, uki, cpio, erofs or file
	Artifacts   []Artifact   `json:"artifacts"`   // of two outputs, sorted by name; empty else
	Inputs      []Input      `json:"inputs"`      // inputs of the two manifests that differ
	Causes      []Cause      `json:"causes"`      // likely causes in words, the ones to look at first
	Differences []Difference `json:"differences"` // in the order of Layers; at most Options.PerCause of a kind
	Omitted     int          `json:"omitted"`     // differences counted in Causes that are not listed
	Registers   []Register   `json:"registers"`   // what hardware would report differently; names only
	Notes       []string     `json:"notes"`       // what could not be read, and what is not covered by any register
}

// A Status is the verdict on one artefact.
type Status string

// The verdicts on an artefact.
const (
	Match  Status = "MATCH"
	Differ Status = "DIFFER"
	OnlyA  Status = "ONLY-A"
	OnlyB  Status = "ONLY-B"
)

// An Artifact is one file of two output directories.
type Artifact struct {
	Name   string `json:"name"`
	Status Status `json:"status"`
	SizeA  int64  `json:"size_a"` // bytes; 0 when it is not there
	SizeB  int64  `json:"size_b"`
}

// An Input is one input of a build that is not the same in two manifests.
type Input struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
	A    string `json:"a,omitempty"` // version and SHA-256; empty: not there
	B    string `json:"b,omitempty"`
}

// The layers of an image, from the outside in. Differences are sorted by them.
const (
	LayerArtifact = "artifact"
	LayerGPT      = "gpt"
	LayerESP      = "esp"
	LayerUKI      = "uki"
	LayerCPIO     = "cpio"
	LayerErofs    = "erofs"
	LayerTree     = "tree"
	LayerVerity   = "verity"
)

var layers = []string{LayerArtifact, LayerGPT, LayerESP, LayerUKI, LayerCPIO, LayerErofs, LayerTree, LayerVerity}

// A Difference is one field of one thing.
type Difference struct {
	Layer   string `json:"layer"`
	Where   string `json:"where"`          // which container, e.g. "disk.raw, partition root"
	Path    string `json:"path,omitempty"` // path, partition or section in it
	Field   string `json:"field"`
	A       string `json:"a"` // empty: not there
	B       string `json:"b"`
	Text    string `json:"text,omitempty"`    // small texts: their lines that differ, as a unified diff
	Owner   string `json:"owner,omitempty"`   // the input that the path comes from
	Cause   string `json:"cause"`             // likely cause in words
	Follows bool   `json:"follows,omitempty"` // a consequence of another difference, not a cause of its own
}

// A Cause is a likely cause with the number of differences that it explains.
type Cause struct {
	Cause   string `json:"cause"`
	Count   int    `json:"count"`
	Example string `json:"example"` // one of them: where and path
}

// A Register is a measurement register that moves.
type Register struct {
	Name    string   `json:"name"`    // e.g. "SNP launch digest", "TDX RTMR1", "PCR 11"
	Boot    string   `json:"boot"`    // direct (kernel, initrd and cmdline handed to the VMM) or uki
	Because []string `json:"because"` // which parts differ, e.g. "cmdline"
}
