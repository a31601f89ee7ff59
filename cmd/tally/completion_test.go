package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tally/internal/testtool"
)

func TestCompletionKnowsItsShells(t *testing.T) {
	for shell, script := range completionScripts {
		if code, out, _ := run(t, "completion", shell); code != 0 || out != script {
			t.Errorf("%s: exit %d, %d bytes", shell, code, len(out))
		}
		var answer completionAnswer
		if code, out, _ := run(t, "completion", shell, "--json"); code != 0 || json.Unmarshal([]byte(out), &answer) != nil ||
			answer != (completionAnswer{"tally.completion/v1", shell, script}) {
			t.Errorf("%s: exit %d, %s", shell, code, out)
		}
	}
	if code, _, _ := run(t, "completion", "tcsh"); code != exitUsage {
		t.Errorf("unknown shell: exit %d, want %d", code, exitUsage)
	}
}

// completionDrivers are scripts of each shell that load $1, complete the words that follow, and print a candidate a line; FILES
// stands for what the shell does for the name of a file.
var completionDrivers = map[string]string{
	"bash": `source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _tally
[ ${#COMPREPLY[@]} -gt 0 ] || echo FILES; printf '%s\n' "${COMPREPLY[@]}"`,
	"zsh": `compdef() { }; compadd() { shift; print -rl -- "$@" }; _files() { print FILES }
source "$1"; shift; words=("$@"); CURRENT=$#; _tally`,
	"fish": `source $argv[1]; function __fish_complete_path; echo FILES; end; complete -C (string join ' ' -- $argv[2..-1])`,
}

// TestCompletionInShells has the shells themselves complete.
func TestCompletionInShells(t *testing.T) {
	for shell, driver := range completionDrivers {
		t.Run(shell, func(t *testing.T) {
			program, dir := testtool.Need(t, shell), t.TempDir()
			script, load := filepath.Join(dir, "script"), filepath.Join(dir, "driver")
			for file, text := range map[string]string{script: completionScripts[shell], load: driver} {
				if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if out, err := exec.Command(program, "-n", script).CombinedOutput(); err != nil || len(out) > 0 {
				t.Errorf("syntax: %v: %s", err, out)
			}
			for line, want := range map[string]string{
				"bu":                      "build",
				"log ":                    "create help monitor refresh serve witness",
				"release v":               "verify",
				"build --o":               "--offline",
				"build image.yaml --tw":   "--twice",
				"build --lock ":           "FILES",
				"build ":                  "FILES",
				"lock ":                   "FILES",
				"lock d":                  "diff",
				"help measure snp":        "snp snp-id-block",
				"completion ":             "bash fish zsh",
				"build 'sp ace' --offlin": "--offline",
			} {
				args := append([]string{load, script, "tally"}, strings.Split(line, " ")...)
				if strings.Contains(line, "'") {
					args = []string{load, script, "tally", "build", "'sp ace'", "--offlin"}
				}
				cmd := exec.Command(program, args...)
				cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_CONFIG_HOME="+dir, "XDG_DATA_HOME="+dir)
				out, err := cmd.Output()
				found := strings.Fields(string(out))
				slices.Sort(found)
				if got := strings.Join(found, " "); err != nil || got != want {
					t.Errorf("%q: %v, completed to %q, want %q", line, err, got, want)
				}
			}
		})
	}
}
