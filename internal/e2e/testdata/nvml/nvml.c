// A driver that is none: it answers from the files report and chain of directory DIR, and as the macros say.
#include <nvml.h>
#include <stdio.h>
#include <string.h>

#ifndef GPUS
#define GPUS 2
#endif
#ifndef FEATURE
#define FEATURE NVML_CC_SYSTEM_FEATURE_ENABLED
#endif
#ifndef ARCH
#define ARCH NVML_DEVICE_ARCH_HOPPER
#endif
#ifndef MULTI
#define MULTI 0
#endif
#ifndef DEVTOOLS
#define DEVTOOLS 0
#endif
#ifndef TOO_LARGE
#define TOO_LARGE 0
#endif
#ifndef INIT
#define INIT NVML_SUCCESS
#endif

static unsigned slurp(const char *name, unsigned char *to, size_t size)
{
	FILE *f = fopen(name, "rb");
	size_t n = f ? fread(to, 1, size, f) : 0;
	if (f)
		fclose(f);
	return n + TOO_LARGE;
}

const char *nvmlErrorString(nvmlReturn_t r) { return r == NVML_ERROR_UNKNOWN ? "Unknown Error" : "no error"; }
nvmlReturn_t nvmlInit(void) { return INIT; }
nvmlReturn_t nvmlShutdown(void) { return NVML_SUCCESS; }
nvmlReturn_t nvmlDeviceGetCount(unsigned *n) { *n = GPUS; return NVML_SUCCESS; }

nvmlReturn_t nvmlDeviceGetHandleByIndex(unsigned i, nvmlDevice_t *d)
{
	*d = (nvmlDevice_t)(size_t)(i + 1);
	return (int)i < GPUS ? NVML_SUCCESS : NVML_ERROR_UNKNOWN;
}

nvmlReturn_t nvmlDeviceGetArchitecture(nvmlDevice_t d, nvmlDeviceArchitecture_t *a)
{
	*a = ARCH;
	return d ? NVML_SUCCESS : NVML_ERROR_UNKNOWN;
}

nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t d, nvmlMemory_v2_t *m)
{
	if (m->version != nvmlMemory_v2)
		return NVML_ERROR_UNKNOWN;
	m->total = 100000;
	m->reserved = 700;
	m->used = 1000 + (size_t)d; // without what is reserved
	m->free = m->total - m->reserved - m->used;
	return NVML_SUCCESS;
}

// The first GPU has two processes, of one of which it is not said what it holds; the last has one.
nvmlReturn_t nvmlDeviceGetComputeRunningProcesses(nvmlDevice_t d, unsigned *n, nvmlProcessInfo_t *list)
{
	unsigned i = (size_t)d;
	if (*n < 2)
		return NVML_ERROR_UNKNOWN;
	*n = i == 1 ? 2 : (int)i == GPUS;
	for (unsigned j = 0; j < *n; j++)
		list[j] = (nvmlProcessInfo_t){.pid = 10 * i + j, .usedGpuMemory = j ? (unsigned long long)NVML_VALUE_NOT_AVAILABLE : 5000000000ull};
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetConfComputeGpuCertificate(nvmlDevice_t d, nvmlConfComputeGpuCertificate_t *c)
{
	c->attestationCertChainSize = slurp(DIR "/chain", c->attestationCertChain, sizeof c->attestationCertChain);
	return d ? NVML_SUCCESS : NVML_ERROR_UNKNOWN;
}

// The report answers one nonce, and no other.
nvmlReturn_t nvmlDeviceGetConfComputeGpuAttestationReport(nvmlDevice_t d, nvmlConfComputeGpuAttestationReport_t *r)
{
	r->attestationReportSize = slurp(DIR "/report", r->attestationReport, sizeof r->attestationReport);
	return d && !memcmp(r->nonce, r->attestationReport + 4, sizeof r->nonce) ? NVML_SUCCESS : NVML_ERROR_UNKNOWN;
}

nvmlReturn_t nvmlSystemGetConfComputeSettings(nvmlSystemConfComputeSettings_t *s)
{
	if (s->version != nvmlSystemConfComputeSettings_v1)
		return NVML_ERROR_UNKNOWN;
	s->ccFeature = FEATURE, s->devToolsMode = DEVTOOLS, s->multiGpuMode = MULTI;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlSystemSetConfComputeGpusReadyState(unsigned accepting)
{
	FILE *f = fopen(DIR "/ready", "w");
	return f && fprintf(f, "%u", accepting) == 1 && !fclose(f) ? NVML_SUCCESS : NVML_ERROR_UNKNOWN;
}
