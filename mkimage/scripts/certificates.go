package scripts

import (
	"bytes"
	"fmt"
	"path"
	"sort"
	"strings"
)

// Where ca-certificates(8) keeps its things.
const (
	caDir    = "usr/share/ca-certificates"
	caLocal  = "usr/local/share/ca-certificates"
	caConf   = "etc/ca-certificates.conf"
	caLinks  = "etc/ssl/certs"
	caBundle = caLinks + "/ca-certificates.crt"
	pemBegin = "-----BEGIN CERTIFICATE-----"
)

// certificates is update-ca-certificates(8): every certificate that ca-certificates.conf does not switch
// off, in the order of their names, in one file, and a link to each. Without a configuration all are on,
// as the package's default answer has it.
func certificates(w *work) error {
	if w.t.Get(caConf) == nil {
		var names strings.Builder
		for _, p := range w.below(caDir, ".crt") {
			names.WriteString(strings.TrimPrefix(p, caDir+"/") + "\n")
		}
		if err := w.write(caConf, 0o644, 0, []byte(names.String())); err != nil {
			return err
		}
	}
	conf, _, err := w.read(caConf)
	if err != nil {
		return err
	}
	var all []string
	for _, line := range strings.Split(string(conf), "\n") {
		if line != "" && line[0] != '#' && line[0] != '!' {
			all = append(all, caDir+"/"+line)
		}
	}
	all = append(all, w.below(caLocal, ".crt")...)
	sort.Strings(all)
	var bundle bytes.Buffer
	for _, p := range all {
		pem, ok, err := w.read(p)
		if err != nil {
			return err
		}
		if !ok || !bytes.Contains(pem, []byte(pemBegin)) {
			return fmt.Errorf("path %q: want a certificate in PEM form (%s)", p, pemBegin)
		}
		bundle.Write(bytes.TrimSuffix(pem, []byte("\n")))
		bundle.WriteByte('\n')
		if err := w.link(caLinks+"/"+pemName(p), "/"+p); err != nil {
			return err
		}
	}
	return w.write(caBundle, 0o644, 0, bundle.Bytes())
}

// pemName is the link's name: update-ca-certificates replaces what a shell would stumble over.
func pemName(p string) string {
	name := strings.TrimSuffix(path.Base(p), ".crt") + ".pem"
	return strings.NewReplacer(" ", "_", "(", "=", ")", "=", ",", "_").Replace(name)
}
