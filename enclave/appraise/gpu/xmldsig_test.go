package gpu

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tally/internal/testtool"
)

// TestXMLSec compares the verdict on every manifest, and on one with a byte changed, with xmlsec1's.
func TestXMLSec(t *testing.T) {
	tool := testtool.Need(t, "xmlsec1")
	root := nvidia(t).RIM
	tags, err := filepath.Glob("testdata/vectors/*/*.swidtag")
	files, err2 := filepath.Glob("testdata/vectors/*/*.xml")
	names := append(tags, files...)
	names = append(names, "testdata/vectors/go-nvattest-tools/rim/NV_GPU_DRIVER_GH100_550.90.07.xml",
		"testdata/vectors/go-nvattest-tools/rim/NV_GPU_VBIOS_1010_0200_882_96009F0001.xml", "testdata/vectors/go-nvattest-tools/rim/success_valid_rim.xml")
	if err != nil || err2 != nil || len(names) != 38 {
		t.Fatal(len(names), names, err, err2)
	}
	good := 0
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		changed := bytes.Replace(data, []byte(`index="9" active`), []byte(`index="9"  active`), 1) // only white space, which does not count
		changed2 := bytes.Replace(data, []byte(`name="Measurement_9"`), []byte(`name="Measurement_X"`), 1)
		for i, text := range [][]byte{data, changed, changed2} {
			r, err := ParseRIM(text)
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(t.TempDir(), "rim.xml")
			if err := os.WriteFile(file, text, 0o600); err != nil {
				t.Fatal(err)
			}
			at := r.SignedAfter().Add(time.Hour)
			_, ours := r.Verify(root, at)
			out, theirs := exec.Command(tool, "--verify", "--trusted-pem", "roots/rim.pem", "--verification-gmt-time", at.UTC().Format("2006-01-02 15:04:05")+"+00:00", file).CombinedOutput()
			if (ours == nil) != (theirs == nil) {
				t.Errorf("%s (%d): we say %v, xmlsec1 says %v: %s", name, i, ours, theirs, out)
			}
			if ours == nil {
				good++
			}
		}
	}
	if good < 10 {
		t.Errorf("only %d manifests are in order", good)
	}
}

// TestXMLRefused holds the reader to the subset of XML that needs no second thought.
func TestXMLRefused(t *testing.T) {
	good := string(read(t, "nvtrust/Driver_RIM_test_no_gpu.swidtag"))
	for name, c := range map[string]struct{ old, new, want string }{
		"document type":                  {"<SoftwareIdentity ", "<!DOCTYPE x []><SoftwareIdentity ", "elements and text only"},
		"comment":                        {"<ns0:Entity", "<!-- x --><ns0:Entity", "elements and text only"},
		"instruction":                    {"<ns0:Entity", "<?x y?><ns0:Entity", "elements and text only"},
		"xml:base":                       {"<ns0:Entity", `<ns0:Entity xml:base="x"`, "xml namespace"},
		"unknown entity":                 {`edition="GPU"`, `edition="&gpu;"`, "a character by its number"},
		"newline in value":               {`edition="GPU"`, `edition="G&#10;PU"`, "control character"},
		"attribute twice":                {`edition="GPU"`, `edition="GPU" edition="GPU"`, "twice"},
		"same attribute by two prefixes": {`ns2:Hash0="`, `xmlns:q="http://www.w3.org/2001/04/xmlenc#sha384" q:Hash0="00" ns2:Hash0="`, "twice"},
		"prefix not declared":            {"<ns0:Entity", "<ns9:Entity", "not declared"},
		"namespace undeclared":           {"<ns0:Entity", `<ns0:Entity xmlns=""`, "undeclared"},
		"wrong end":                      {"</ns0:Payload>", "</ns2:Payload>", "not open"},
		"element after":                  {"</SoftwareIdentity>", "</SoftwareIdentity><x/>", "one element"},
		"no signature":                   {"ds:Signature ", "ds:Signatur ", "not open"},
		"two signatures":                 {"<ns0:Entity", `<Signature xmlns="http://www.w3.org/2000/09/xmldsig#"/><ns0:Entity`, "2 in the document"},
		"hidden signature":               {"<ns0:Payload ", `<ns0:Payload xmlns:d="http://www.w3.org/2000/09/xmldsig#"><d:Signature/></ns0:Payload><ns0:Payload `, "2 in the document"},
		"two payloads":                   {"<ns0:Payload ", `<ns0:Payload></ns0:Payload><ns0:Payload `, "one Payload"},
		"two references":                 {"</ds:Reference>", `</ds:Reference><ds:Reference/>`, "nothing else"},
		"reference elsewhere":            {`<ds:Reference URI="">`, `<ds:Reference URI="#x">`, "whole document"},
		"reference by id":                {`<ds:Reference URI="">`, `<ds:Reference URI="" Id="a">`, "whole document"},
		"other transform":                {"2006/12/xml-c14n11\"/></ds:Transforms>", "TR/1999/REC-xpath-19991116\"/></ds:Transforms>", "want http://www.w3.org/2006/12/xml-c14n11"},
		"third transform":                {"<ds:Transforms>", "<ds:Transforms><ds:Transform/>", "nothing else"},
		"object":                         {"<ds:KeyInfo>", "<ds:Object/><ds:KeyInfo>", "nothing else"},
		"other digest":                   {"xmldsig-more#sha384", "xmldsig-more#sha224", "want http"},
		"other signature":                {"#ecdsa-sha384", "#hmac-sha384", "want http"},
		"key by value":                   {"<ds:X509Data>", "<ds:KeyValue/><ds:X509Data>", "nothing else"},
		"reference to nothing":           {`<ds:Reference URI="">`, `<ds:Reference Id="">`, "whole document"},
		"method with parameter":          {`<ds:DigestMethod Algorithm="http://www.w3.org/2001/04/xmldsig-more#sha384"/>`, `<ds:DigestMethod Algorithm="http://www.w3.org/2001/04/xmldsig-more#sha384"> </ds:DigestMethod>`, "nothing else"},
		"method with attribute":          {`<ds:DigestMethod `, `<ds:DigestMethod Id="a" `, "nothing else"},
		"certificate of another space":   {"<ds:X509Data>", `<ds:X509Data><X509Certificate>AAAA</X509Certificate>`, "X509Certificate and nothing else"},
		"subject beside certificates":    {"<ds:X509Data>", "<ds:X509Data><ds:X509SubjectName/>", "X509Certificate and nothing else"},
		"index twice":                    {`index="1" `, `index="0" `, "twice"},
		"index too high":                 {`index="0" `, `index="255" `, "0 to 254"},
		"active":                         {`active="True"`, `active="true"`, "True or False"},
		"alternatives":                   {`alternatives="2"`, `alternatives="1"`, "more than 1 alternatives"},
		"missing alternative":            {`alternatives="2"`, `alternatives="3"`, "Hash2"},
		"size":                           {`size="48"`, `size="32"`, "size"},
	} {
		text := strings.Replace(good, c.old, c.new, 1)
		if text == good {
			t.Errorf("%s: nothing replaced", name)
		}
		if _, err := ParseRIM([]byte(text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// TestSignaturePlace: a signature deeper down is of a part of the document, or of nothing.
func TestSignaturePlace(t *testing.T) {
	good := string(read(t, "nvtrust/Driver_RIM_test_no_gpu.swidtag"))
	deep := strings.NewReplacer("<ds:Signature ", "<ns0:Entity><ds:Signature ", "</ds:Signature>", "</ds:Signature></ns0:Entity>").Replace(good)
	if _, err := ParseRIM([]byte(deep)); err == nil || !strings.Contains(err.Error(), "in its outermost element") {
		t.Errorf("deeper: %v", err)
	}
	one := good[strings.Index(good, "<ds:X509Certificate>"):]
	one = one[:strings.Index(one, "</ds:X509Certificate>")+len("</ds:X509Certificate>")]
	from, to := strings.Index(good, "<ds:X509Data>")+len("<ds:X509Data>"), strings.Index(good, "</ds:X509Data>")
	if _, err := ParseRIM([]byte(good[:from] + good[to:])); err == nil || !strings.Contains(err.Error(), "no certificate") {
		t.Errorf("no certificate: %v", err)
	}
	many := strings.Replace(good, "<ds:X509Data>", "<ds:X509Data>"+strings.Repeat(one, maxCerts), 1)
	if _, err := ParseRIM([]byte(many)); err == nil || !strings.Contains(err.Error(), "at most 8") {
		t.Errorf("many certificates: %v", err)
	}
}

func FuzzRIM(f *testing.F) {
	f.Add([]byte(`<SoftwareIdentity xmlns="http://standards.iso.org/iso/19770/-2/2015/schema.xsd"/>`))
	f.Add(read(f, "nvtrust/Driver_RIM_test_no_gpu.swidtag"))
	ca := nvidia(f).RIM
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := ParseRIM(text)
		if err != nil {
			return
		}
		if len(r.Measurements) == 0 || r.Version == "" {
			t.Errorf("accepted with %d measurements, version %q", len(r.Measurements), r.Version)
		}
		_, _ = r.Verify(ca, r.SignedAfter())
	})
}
