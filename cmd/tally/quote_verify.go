package main

import (
	"crypto/x509"
	"fmt"

	"tally/enclave/appraise"
	"tally/enclave/appraise/intel"
	"tally/internal/cli"
)

func quoteVerifyCommand(e *env) *cli.Command {
	return &cli.Command{
		Name: "verify", Usage: "check offline who signed a report or quote", ArgsUsage: "FILE",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "collateral", Usage: "`FILE` of the vendor: of SNP (Azure's and an SVSM's TPM likewise) a VCEK or VLEK (DER, PEM) or a certificate table; of TDX tally.tdx-collateral/v1"},
			&cli.StringFlag{Name: "roots", Usage: "`FILE` (PEM) in place of the vendor's roots, for tests: of SNP ARK, ASK, ASVK; of TDX the root"},
			&cli.StringFlag{Name: "at", Usage: "verify as of `TIME` (RFC 3339; default: now)"},
		},
		Description: quoteFiles +
			"Signatures and certificate chains are followed to AMD's or Intel's root; nothing is fetched. With collateral a TDX platform must also be UpToDate and not\n" +
			"revoked. The key of an Azure VM's TPM is followed to the paravisor's report that AMD's key signed; that of an SVSM's TPM is not\n" +
			"verified by a file alone: the TPM shows it to a client in a session. Any other TPM's key stands for itself: its quote is verified, and every line says \"" + appraise.InsecureNote + "\".\n" +
			"This says who signed, not whether that is good: 'tally verify' does. Exit 0: verified. Exit 4: not, reason signature.\n" +
			"--json prints tally.quote/v1: kind, verified, reason, note, fields (list of name, value; after the report's: signed by, root, revocation or TCB status).\n\n" +
			"   tally quote verify report.bin --collateral vcek.der",
		Action: func(c *cli.Context) error { return quoteVerify(c, e) },
	}
}

func quoteVerify(c *cli.Context, e *env) error {
	if err := wantArgs(c, "FILE"); err != nil {
		return err
	}
	now, err := timeFlag(c, "at")
	if err != nil {
		return err
	}
	path := c.Args().First()
	q, a, err := openQuote(e, path)
	if err != nil {
		return err
	}
	if c.IsSet("collateral") {
		if q.collateral, err = readAtMost(c.String("collateral"), intel.MaxCollateral); err != nil {
			return err
		}
	}
	var roots []*x509.Certificate
	if c.IsSet("roots") {
		if roots, err = readRoots(c.String("roots")); err != nil {
			return err
		}
	}
	if err := q.describe(a); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	verr := q.verify(c.Context, a, roots, now)
	good := verr == nil
	a.Verified = &good
	if !good {
		a.Reason = string(appraise.BadSignature)
	}
	if err := printQuote(e, a); err != nil || good {
		return err
	}
	return verdict(exitUnverified, a.Reason, "%s: %w", path, verr)
}
