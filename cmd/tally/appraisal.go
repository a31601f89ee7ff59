package main

// appraisalReasons are the words of appraise.Reason, for man pages.
const appraisalReasons = "policy, evidence, platform, key, authority, report-data, signature, revocation, tcb,\n" +
	"guest-policy, vmpl, alias-check, machine, configuration, measurement, freshness, gpu or unsupported"
