/* A fake libnvidia-ml.so.1: it gives out the files of the directory $FAKE, gpuN.report and gpuN.chain, to who asks with the nonce
 * that the report answers. $FAKE_MODE is ccFeature, devToolsMode and multiGpuMode, one digit each. Laid out as in nvml.h of the
 * vendor's CUDA toolkit, by hand. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OK = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7, VERSION_MISMATCH = 25 };

static int running;

static long load(const char *what, unsigned i, unsigned char *to, size_t room) {
	char path[4096];
	snprintf(path, sizeof path, "%s/gpu%u.%s", getenv("FAKE"), i, what);
	FILE *f = fopen(path, "rb");
	if (f == NULL)
		return -1;
	long n = fread(to, 1, room, f);
	fclose(f);
	return n;
}

int nvmlInit_v2(void) { running = 1; return OK; }
int nvmlInit(void) { return nvmlInit_v2(); }
int nvmlShutdown(void) { running = 0; return OK; }
const char *nvmlErrorString(int code) { return code == NOT_FOUND ? "Not Found" : "an error"; }

typedef struct { unsigned version, environment, cc, devtools, multi; } settings;

int nvmlSystemGetConfComputeSettings(settings *s) {
	const char *mode = getenv("FAKE_MODE");
	if (!running)
		return UNINITIALIZED;
	if (s->version != (sizeof *s | 1u << 24))
		return VERSION_MISMATCH;
	s->cc = mode[0] - '0';
	s->devtools = mode[1] - '0';
	s->multi = mode[2] - '0';
	return OK;
}

int nvmlDeviceGetCount_v2(unsigned *n) {
	unsigned char b;
	for (*n = 0; load("chain", *n, &b, 1) >= 0; ++*n)
		;
	return OK;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **device) {
	*device = (void *)(size_t)(i + 1);
	return OK;
}

static unsigned index_of(void *device) { return (unsigned)(size_t)device - 1; }

typedef struct { unsigned cert, attestation; unsigned char chain[0x1000], attestation_chain[0x1400]; } certificate;

int nvmlDeviceGetConfComputeGpuCertificate(void *device, certificate *c) {
	long n = load("chain", index_of(device), c->attestation_chain, sizeof c->attestation_chain);
	c->attestation = n;
	return n < 0 ? NOT_FOUND : OK;
}

typedef struct {
	unsigned cec, size, cec_size;
	unsigned char nonce[32], report[0x2000], cec_report[0x1000];
} report;

int nvmlDeviceGetConfComputeGpuAttestationReport(void *device, report *r) {
	long n = load("report", index_of(device), r->report, sizeof r->report);
	if (n < 36)
		return NOT_FOUND;
	r->size = n;
	return memcmp(r->nonce, r->report + 4, 32) == 0 ? OK : INVALID_ARGUMENT;
}

int nvmlSystemSetConfComputeGpusReadyState(unsigned accepting) {
	char path[4096];
	snprintf(path, sizeof path, "%s/ready", getenv("FAKE"));
	FILE *f = fopen(path, "w");
	fprintf(f, "%u", accepting);
	fclose(f);
	return OK;
}

typedef struct { unsigned version; unsigned long long total, reserved, free, used; } memory;

int nvmlDeviceGetMemoryInfo_v2(void *device, memory *m) {
	if (m->version != (40 | 2 << 24))
		return VERSION_MISMATCH;
	m->total = 1000;
	m->reserved = 70;
	m->used = 100 + index_of(device) + m->reserved; /* with what is reserved */
	m->free = m->total - m->used;
	return OK;
}

typedef struct { unsigned pid; unsigned long long used; unsigned gpu, compute; } process;

int nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned *count, process *p) {
	unsigned n = index_of(device) == 0 ? 2 : 0;
	if (*count < n) {
		*count = n;
		return INSUFFICIENT_SIZE;
	}
	*count = n;
	if (n == 2) {
		p[0] = (process){41, 64, -1, -1};
		p[1] = (process){42, -1ull, -1, -1}; /* not available */
	}
	return OK;
}
