// Package policy reads the file in which a relying party says whom it trusts (tally.policy/v1):
//
//	schema: tally.policy/v1
//	release:
//	  signers:                       # who may sign releases; at least one, or one of identities
//	    - file: cosign.pub           # or  pem: |  with the key itself
//	      not-before: "2026-01-01T00:00:00Z"   # optional
//	      not-after: "2027-01-01T00:00:00Z"    # optional
//	  identities:                    # who may sign with a certificate; see release.Identity
//	    - issuer: https://token.actions.githubusercontent.com
//	      repository: https://github.com/acme/enclave
//	      workflow: .github/workflows/release.yml
//	      tag: v*                    # "*" is one or more characters other than "/"; nothing else is special
//	      commit: "*"
//	      not-before: "2026-01-01T00:00:00Z"   # optional, as a signer's: when it signed and now
//	      not-after: "2027-01-01T00:00:00Z"    # optional
//	    - issuer: https://accounts.example
//	      subject: release@acme.example   # in place of repository, workflow, tag and commit
//	  trusted-root: trusted_root.json     # Sigstore trusted root: who gives certificates and timestamps
//	  log:
//	    vkey: log.example+1234abcd+AbCd…     # or  file: log.vkey
//	    witness-policy: witnesses.txt   # C2SP tlog-policy: who must have cosigned the log's checkpoints
//	    cosignature-max-age: 168h    # optional: how long ago, on the newest checkpoint at hand
//	    witnesses: none              # in place of the two above; every result then warns
//	    from: https://log.example/   # optional: URL or directory where the log is asked: consistency, rebuilds, revocations
//	  channel:                       # optional: want a channel statement beside every release
//	    name: stable
//	    max-age: 168h                # how old the statement may be
//	    signers: […]                 # as above; default: who may sign releases
//	  rebuilders:                    # optional: others who built the release and came to the same bytes
//	    need: 2                      # of keys and identities; 0: none, but a mismatch by one of them refuses
//	    keys: […]                    # as signers, and none of them
//	    identities: […]              # optional: as above, and none of them; each names one signer
//	    logs: […]                    # optional: each as log; where rebuilders log, beside the releases' log
//	  oci-manifest: require          # optional: a release names the manifest under which registries have it
//	  other-wires: refuse            # optional: an enclave is reached by tally/1 alone; without it a result names the others
//	  revocation-keys: […]           # optional: as signers; keys that revoke and do nothing else
//	  revocation-identities: […]     # optional: the same by certificates; each names one signer
//	evidence:
//	  platforms: [snp, tdx]          # which evidence a client accepts; no default: insecure, vtpm-unendorsed, vtpm-azure, vtpm-svsm, snp, tdx
//	  freshness: session             # unless only insecure: session, key or none; what must show that evidence is new
//	  freshness-max-age: 36h         # with freshness key: how long ago the quorum of release.log's witness-policy had
//	                                 # cosigned the checkpoint in the key evidence; a key is used for 24 hours
//	  reappraise: 10m                # optional, 1h by default, up to 24h: how old an appraisal may be when something is sent in an
//	                                 # open session; all evidence but the key's is taken anew then, and a session that is not accepted again ends
//	  snp:                           # with platform snp; debugging and migration are never accepted
//	    tcb: [{product: Milan, boot-loader: 4, tee: 0, snp: 24, microcode: 219}]   # floors; Milan, Genoa (all of Zen 4), and Turin with fmc, too
//	    firmware: "1.55"             # lowest version of the AMD-SP's firmware
//	    signers: [vcek]              # vcek, vlek or both
//	    vmpl: 0
//	    smt: allow                   # or refuse: hyper-threads of the machine
//	    alias-check: require         # or ignore: ALIAS_CHECK_COMPLETE
//	    revocation-list: require     # or ignore: AMD's list beside the report
//	    chips: [any]                 # or CHIP_IDs
//	    guest-svn: 0                 # optional: lowest
//	    host-data: 00…               # optional: HOST_DATA; zero by default
//	    id-keys: [any]               # optional: keys of ID blocks; by default there must be no ID block
//	    roots: fake.pem              # for tests: ARK, ASK and ASVK in place of AMD's
//	  tdx:                           # with platform tdx; debugging is never accepted, SEPT_VE_DISABLE is wanted
//	    tcb-evaluation-number: 18    # lowest of Intel's collateral, which must say UpToDate
//	    tee-tcb-svn: 07010600…       # floor, each byte on its own
//	    pce-svn: 11                  # floor
//	    mrseam: [any]                # or TDX modules
//	    attributes: ["0000001000000000"]
//	    xfam: [e702060000000000]
//	    ppids: [any]                 # or platforms
//	    mrconfigid: 00…              # optional, zero by default; so are mrowner, mrownerconfig, mrservicetd
//	    root: fake.pem               # for tests: in place of Intel's
//	  vtpm:                          # with platform vtpm-unendorsed: SHA-256 PCRs of the firmwares allowed
//	    pcr0: [3d45…]
//	    pcr2: [3d45…]
//	  vtpm-azure:                    # with platform vtpm-azure: the TPM of an Azure confidential VM on SEV-SNP
//	    paravisors: [94e1…]          # launch digests of Azure's paravisor, which keeps the TPM and is trusted with it
//	    pcr0: [3d45…]                # SHA-256 PCRs of the firmwares allowed
//	    pcr2: [3d45…]
//	    snp: …                       # as above, of the report that names the TPM's key; vmpl must be 0
//	  vtpm-svsm:                     # with platform vtpm-svsm: a TPM that an SVSM keeps, beneath a guest on SEV-SNP
//	    svsms: [94e1…]               # launch digests of SVSM and firmware ('tally measure snp'), which keep VMPL 0 to themselves
//	    pcr0: [3d45…]                # and the rest as for vtpm-azure
//	    pcr2: [3d45…]
//	    snp: …
//	gpu: …                           # optional: [GPU]; evidence that binds GPUs is refused without it, and such that binds none with it
//
// The reader is strict: an unknown key, a key twice, a second document, an anchor or a value of another
// kind is an error with its file, line and column. Files are taken relative to the policy's directory. What is
// left out is trusted to nobody: an empty policy is valid and rejects everything.
package policy
