package main

import "github.com/urfave/cli/v2"

// commands lists every command, one a file, in the order of the help page.
func commands(e *env) []*cli.Command {
	return []*cli.Command{
		initCommand(e),
		lockCommand(e),
		inputsCommand(e),
		buildCommand(e),
		measureCommand(e),
		matchCommand(e),
		releaseCommand(e),
		logCommand(e),
		rebuildCommand(e),
		compareCommand(e),
		runCommand(e),
		withGPU(e, quoteCommand(e)),
		verifyCommand(e),
		connectCommand(e),
		chatCommand(e),
		proxyCommand(e),
		verityCommand(e),
		doctorCommand(e),
		manCommand(e),
		completionCommand(e),
	}
}
