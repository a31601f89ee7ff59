package main

import "tally/internal/cli"

// Each script asks the program itself, so that completion cannot lag behind the commands: what the word at the cursor could
// become, one candidate a line. No candidate means a file. Shells hand words over as they were typed, with a ~ that only they
// know.
var completionScripts = map[string]string{
	"bash": `_tally() {
  local IFS=$'\n'
  local program="${COMP_WORDS[0]/#\~\//$HOME/}"
  COMPREPLY=($("$program" "${COMP_WORDS[@]:1:COMP_CWORD}" --generate-bash-completion 2>/dev/null))
}
complete -o bashdefault -o default -F _tally tally
`,
	"zsh": `#compdef tally
_tally() {
  local -a found
  found=("${(@f)$("${words[1]/#\~\//$HOME/}" "${(@Q)words[2,CURRENT]}" --generate-bash-completion 2>/dev/null)}")
  if [[ -n "${found[1]}" ]]; then compadd -- "${found[@]}"; else _files; fi
}
if [[ "${funcstack[1]}" == _tally ]]; then _tally "$@"; else compdef _tally tally; fi
`,
	"fish": `function __tally
  set -l words (commandline -opc)
  set -l current (commandline -ct)
  set -l program (string replace -r '^~/' "$HOME/" -- $words[1])
  set -l found ($program $words[2..-1] "$current" --generate-bash-completion 2>/dev/null)
  if test (count $found) -gt 0
    printf '%s\n' $found
  else
    __fish_complete_path "$current"
  end
end
complete -c tally -f -a '(__tally)'
`,
}

// A completionAnswer is tally.completion/v1.
type completionAnswer struct {
	Schema string `json:"schema"`
	Shell  string `json:"shell"`
	Script string `json:"script"`
}

func completionCommand(e *env) *cli.Command {
	return &cli.Command{
		Name:      "completion",
		Usage:     "print the completion script of a shell",
		ArgsUsage: "bash|zsh|fish",
		Words:     []string{"bash", "zsh", "fish"},
		Description: "The script asks tally itself, so it is the same for every version of it. Into the start-up file of the shell:\n\n" +
			"   bash: source <(tally completion bash)\n" +
			"   zsh:  source <(tally completion zsh)      # after compinit; or as the file _tally in a directory of fpath\n" +
			"   fish: tally completion fish | source\n\n" +
			"--json prints tally.completion/v1: shell, script.",
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, "SHELL"); err != nil {
				return err
			}
			script, ok := completionScripts[c.Args().First()]
			if !ok {
				return usagef("shell %q: want bash, zsh or fish", c.Args().First())
			}
			if e.json {
				return e.printJSON(completionAnswer{"tally.completion/v1", c.Args().First(), script})
			}
			e.printf("%s", script)
			return nil
		},
	}
}
