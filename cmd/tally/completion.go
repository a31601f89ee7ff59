package main

import "tally/internal/cli"

// Each script asks the program itself, so that completion cannot lag behind the commands.
var completionScripts = map[string]string{
	"bash": `_tally() {
  local cur words
  cur="${COMP_WORDS[COMP_CWORD]}"
  words=$("${COMP_WORDS[@]:0:COMP_CWORD}" "$cur" --generate-bash-completion 2>/dev/null)
  [ -n "$words" ] || words=$("${COMP_WORDS[@]:0:COMP_CWORD}" --generate-bash-completion 2>/dev/null)
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -o bashdefault -o default -F _tally tally
`,
	"zsh": `#compdef tally
_tally() {
  local -a opts
  opts=("${(@f)$(${words[@]:0:#words[@]-1} --generate-bash-completion 2>/dev/null)}")
  if [[ -n "${opts[1]}" ]]; then _describe 'values' opts; else _files; fi
}
compdef _tally tally
`,
	"fish": `function __tally
  set -l words (commandline -opc)
  $words --generate-bash-completion 2>/dev/null
end
complete -c tally -a '(__tally)'
`,
}

func completionCommand(e *env) *cli.Command {
	return &cli.Command{
		Name:        "completion",
		Usage:       "print the completion script of a shell",
		ArgsUsage:   "bash|zsh|fish",
		Description: "For bash: source <(tally completion bash)",
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, "SHELL"); err != nil {
				return err
			}
			script, ok := completionScripts[c.Args().First()]
			if !ok {
				return usagef("shell %q: want bash, zsh or fish", c.Args().First())
			}
			e.printf("%s", script)
			return nil
		},
	}
}
