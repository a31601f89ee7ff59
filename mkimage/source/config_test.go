package source

import (
	"context"
	"strings"
	"testing"
)

const enclaveConfig = `{"schema": "tally.enclave-config/v1", "hostname": "h", "listen": ":7443", "attesters": ["snp"]}`

// configured is the project with a configuration, from the spec's own key or from a directory.
func configured(fromDir bool, text string) project {
	p := newProject()
	if fromDir {
		p["images/one/image.yaml"] = strings.Replace(projectSpec, "rootfs, target: srv}", "rootfs}", 1)
		p["images/shared/rootfs/etc/tally/enclave.json"] = text
	} else {
		p["images/one/image.yaml"] = strings.Replace(projectSpec, "devices:", "config: {path: enclave.json}\ndevices:", 1)
		p["images/one/enclave.json"] = text
	}
	return p
}

func TestConfig(t *testing.T) {
	for _, fromDir := range []bool{false, true} {
		in, err := assemble(t, configured(fromDir, enclaveConfig))
		if err != nil {
			t.Fatal(err)
		}
		e := in.Root.Get("etc/tally/enclave.json")
		if e == nil || in.Config != "etc/tally/enclave.json" || e.Mode != 0o644 || e.MTime != in.Epoch {
			t.Fatalf("config %q, entry %+v", in.Config, e)
		}
		if data, err := contents(context.Background(), e); err != nil || string(data) != enclaveConfig {
			t.Errorf("%q, %v", data, err)
		}
	}
	in, err := assemble(t, newProject())
	if err != nil || in.Config != "" {
		t.Errorf("no configuration: %q, %v", in.Config, err)
	}
}

// TestWires: what a configuration has the enclave listen to beside tally/1 is said, wherever the configuration comes from.
func TestWires(t *testing.T) {
	wired := strings.Replace(enclaveConfig, `"attesters"`, `"engine": {"command": ["/e"], "uid": 1}, "confer": {"listen": ":7444", "context-tokens": 1}, "attesters"`, 1)
	for _, fromDir := range []bool{false, true} {
		if in, err := assemble(t, configured(fromDir, wired)); err != nil || len(in.Wires) != 1 || in.Wires[0] != "confer" {
			t.Errorf("%v, wires %q", err, in.Wires)
		}
		if in, err := assemble(t, configured(fromDir, enclaveConfig)); err != nil || in.Wires != nil {
			t.Errorf("%v, wires %q", err, in.Wires)
		}
	}
}

// TestConfigRefusals: what the guest would refuse is refused when the lock is made or the image built.
func TestConfigRefusals(t *testing.T) {
	bad := strings.Replace(enclaveConfig, `"h"`, `"h", "hostname": "i"`, 1)
	p := configured(false, bad)
	l := open(t, p.write(t))
	if _, _, err := l.checkConfig(); err == nil || err.Error() != `config "enclave.json": key "hostname" stands there twice` {
		t.Errorf("from the spec: %v", err)
	}
	silent := strings.Replace(enclaveConfig, `, "attesters": ["snp"]`, "", 1)
	if _, _, err := open(t, configured(false, silent).write(t)).checkConfig(); err == nil || err.Error() != `config "enclave.json": no key "attesters"` {
		t.Errorf("nobody attests: %v", err)
	}
	if _, err := assemble(t, configured(true, bad)); err == nil || !strings.Contains(err.Error(), `path "etc/tally/enclave.json" from dir ../shared/rootfs: key "hostname" stands there twice`) {
		t.Errorf("from a directory: %v", err)
	}
	p = configured(true, "->/etc/passwd")
	if _, err := assemble(t, p); err == nil || !strings.Contains(err.Error(), "a symlink, want the file of the configuration") {
		t.Errorf("a link: %v", err)
	}
	p = configured(true, enclaveConfig)
	p["images/one/image.yaml"] = strings.Replace(p["images/one/image.yaml"], "devices:", "config: {path: enclave.json}\ndevices:", 1)
	p["images/one/enclave.json"] = enclaveConfig
	if _, err := assemble(t, p); err == nil || !strings.Contains(err.Error(), `path "etc/tally/enclave.json": file`) {
		t.Errorf("twice: %v", err)
	}
	delete(p, "images/one/enclave.json")
	if _, _, err := open(t, p.write(t)).checkConfig(); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("absent: %v", err)
	}
}
