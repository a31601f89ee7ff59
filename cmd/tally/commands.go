package main

import (
	"slices"

	"tally/internal/cli"
)

// A builder makes one command. The tree below a command is large, and only that of the command that runs is wanted.
type builder struct {
	name  string
	build func(*env) *cli.Command
}

// builders lists every command, one a file, in the order of the help page.
func builders() []builder {
	return []builder{
		{"init", initCommand},
		{"lock", lockCommand},
		{"inputs", inputsCommand},
		{"build", buildCommand},
		{"measure", measureCommand},
		{"match", matchCommand},
		{"release", releaseCommand},
		{"log", logCommand},
		{"rebuild", rebuildCommand},
		{"compare", compareCommand},
		{"run", runCommand},
		{"quote", func(e *env) *cli.Command { return withGPU(e, quoteCommand(e)) }},
		{"verify", verifyCommand},
		{"connect", connectCommand},
		{"chat", chatCommand},
		{"proxy", proxyCommand},
		{"secret", secretCommand},
		{"verity", verityCommand},
		{"doctor", doctorCommand},
		{"man", manCommand},
		{"completion", completionCommand},
	}
}

// wholeTree are the commands that read the others.
var wholeTree = []string{"man"}

// commands returns the command that args name, alone, or all of them: for help, for completion, for a name that is
// none.
func commands(e *env, args []string) []*cli.Command {
	all := builders()
	if len(args) > 1 && !slices.Contains(wholeTree, args[1]) {
		if i := slices.IndexFunc(all, func(b builder) bool { return b.name == args[1] }); i >= 0 {
			all = all[i : i+1]
		}
	}
	cs := make([]*cli.Command, len(all))
	for i, b := range all {
		cs[i] = b.build(e)
	}
	return cs
}
