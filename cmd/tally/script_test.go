package main

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/ulikunitz/xz"

	"tally/mkimage/steps"
	"tally/release/keyless/process"
)

func TestMain(m *testing.M) {
	steps.Main(os.Args)
	log.SetOutput(libraryTalk{os.Stderr})
	testscript.Main(m, map[string]func(){
		"sigstore-kms-test": kmsTestMain,
		"tally-keyless":     func() { os.Exit(process.Main(context.Background(), os.Stdin, os.Stdout, os.Stderr)) },
		"tally":             func() { os.Exit(runProcess(time.Second, 20*time.Second)) },
		"tally-impatient":   func() { os.Exit(runProcess(time.Second, time.Second)) },
	})
}

// TestScript runs testdata/script/*.txt: each command's success and each of its refusals.
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exitcode":  exitCodeCmd,
			"mkdata":    mkdataCmd,
			"flip":      flipCmd,
			"root":      rootCmd,
			"need":      needCmd,
			"unxz":      unxzCmd,
			"nonl":      nonlCmd,
			"mkout":     mkoutCmd,
			"mkuki":     mkukiCmd,
			"edit":      editCmd,
			"mkkernel":  mkkernelCmd,
			"mkacpi":    mkacpiCmd,
			"mkccel":    mkccelCmd,
			"digest":    digestCmd,
			"mkquote":   mkquoteCmd,
			"mktcg":     mktcgCmd,
			"mkquotes":  mkquotesCmd,
			"ports":     portsCmd,
			"dial":      dialCmd,
			"serve":     serveCmd,
			"mirror":    mirrorCmd,
			"mkstub":    mkstubCmd,
			"payload":   payloadCmd,
			"mkoci":     mkociCmd,
			"registry":  registryCmd,
			"cancel":    cancelCmd,
			"claimwire": claimwireCmd,
			"sigstore":  sigstoreCmd,
		},
		Setup: func(env *testscript.Env) error {
			repo, err := filepath.Abs("../..")
			env.Setenv("REPO", repo)
			env.Values[mirrorKey{}] = new(testMirror)
			return err
		},
		RequireExplicitExec: true,
	})
}

// exitCodeCmd is `exitcode N tally ARGS…`: runs the command and wants exactly exit code N.
func exitCodeCmd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exitcode N command args...")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := "0"
	if err != nil {
		var ok bool
		if got, ok = exitStatus(err); !ok {
			ts.Fatalf("%v", err)
		}
	}
	if got != args[0] {
		ts.Fatalf("exit code %s, want %s\n%s", got, args[0], ts.ReadFile("stderr"))
	}
}

// mkdataCmd is `mkdata BLOCKS FILE`: a file of so many different blocks of 4096 bytes.
func mkdataCmd(ts *testscript.TestScript, neg bool, args []string) {
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	b := make([]byte, n*4096)
	for i := range n {
		binary.BigEndian.PutUint64(b[i*4096:], uint64(i)+1)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), b, 0o644))
}

// flipCmd is `flip FILE OFFSET`: changes one bit of the byte there.
func flipCmd(ts *testscript.TestScript, neg bool, args []string) {
	off, err := strconv.ParseInt(args[1], 0, 64)
	ts.Check(err)
	f, err := os.OpenFile(ts.MkAbs(args[0]), os.O_RDWR, 0)
	ts.Check(err)
	defer f.Close()
	b := make([]byte, 1)
	_, err = f.ReadAt(b, off)
	ts.Check(err)
	b[0] ^= 1
	_, err = f.WriteAt(b, off)
	ts.Check(err)
}

// rootCmd is `root FILE`: sets $ROOT to the root hash that veritysetup's form names in it.
func rootCmd(ts *testscript.TestScript, neg bool, args []string) {
	m := regexp.MustCompile(`Root hash:\s+([0-9a-f]{40,128})`).FindStringSubmatch(ts.ReadFile(args[0]))
	if m == nil {
		ts.Fatalf("%s names no root hash", args[0])
	}
	ts.Setenv("ROOT", m[1])
}

// needCmd is `need TOOL…`: skips loudly when one is missing, fails in CI.
func needCmd(ts *testscript.TestScript, neg bool, args []string) {
	for _, tool := range args {
		if _, err := exec.LookPath(tool); err == nil {
			continue
		}
		if os.Getenv("CI") != "" || os.Getenv("TALLY_CI") != "" {
			ts.Fatalf("program %s is not installed, and in CI nothing may be skipped", tool)
		}
		ts.Logf("SKIPPED: program %s is not installed", tool)
	}
}

// nonlCmd is `nonl FILE`: takes the newline away that every file of a script ends in.
func nonlCmd(ts *testscript.TestScript, neg bool, args []string) {
	name := ts.MkAbs(args[0])
	ts.Check(os.WriteFile(name, []byte(strings.TrimSuffix(ts.ReadFile(args[0]), "\n")), 0o644))
}

// unxzCmd is `unxz FILE.xz FILE`.
func unxzCmd(ts *testscript.TestScript, neg bool, args []string) {
	in, err := os.Open(ts.MkAbs(args[0]))
	ts.Check(err)
	defer in.Close()
	r, err := xz.NewReader(in)
	ts.Check(err)
	out, err := os.Create(ts.MkAbs(args[1]))
	ts.Check(err)
	_, err = io.Copy(out, r)
	ts.Check(errors.Join(err, out.Close()))
}
