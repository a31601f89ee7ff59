// Gpu-helper is the one program in the image that loads NVIDIA's library. It asks the driver what tally/enclave/attest/gpu
// wants to know, in the words that type Helper there fixes, and decides nothing: the enclave verifies what it prints.
//
//	gpu-helper collect NONCE    evidence of every GPU and NVSwitch for a nonce of 64 hexadecimal digits
//	gpu-helper ready on|off     lets the GPUs take work, or no more
//	gpu-helper usage            who computes on which GPU
//
// It exits 0, or 1 with one line on stderr. NVSwitches are not behind NVML: nscq.c, which cmd/gpu-helper has as well, asks their own
// library where the image has it. Compiled with Debian's nvml.h in step helper of image.yaml, and by a test with a driver that
// is none.
#include "nscq.h"
#include <nvml.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SCHEMA "\"schema\": \"tally.gpu-helper/v1\""
#define MAX_GPUS 32
#define MAX_PROCESSES 4096

static void fail(const char *form, ...)
{
	va_list args;
	va_start(args, form);
	fputs("gpu-helper: ", stderr);
	vfprintf(stderr, form, args);
	fputs("\n", stderr);
	va_end(args);
	exit(1);
}

static void must(const char *what, nvmlReturn_t r)
{
	if (r != NVML_SUCCESS)
		fail("%s: NVML: %s", what, nvmlErrorString(r));
}

static int digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static void read_nonce(const char *text, unsigned char nonce[32])
{
	if (strlen(text) != 64)
		fail("nonce of %zu bytes: want 64 hexadecimal digits", strlen(text));
	for (int i = 0; i < 32; i++) {
		int high = digit(text[2 * i]), low = digit(text[2 * i + 1]);
		if (high < 0 || low < 0)
			fail("nonce: want 64 lower-case hexadecimal digits");
		nonce[i] = high << 4 | low;
	}
}

static void print_base64(const unsigned char *b, size_t n)
{
	static const char set[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	for (size_t i = 0; i < n; i += 3) {
		unsigned v = b[i] << 16 | (i + 1 < n ? b[i + 1] << 8 : 0) | (i + 2 < n ? b[i + 2] : 0);
		putchar(set[v >> 18]);
		putchar(set[v >> 12 & 63]);
		putchar(i + 1 < n ? set[v >> 6 & 63] : '=');
		putchar(i + 2 < n ? set[v & 63] : '=');
	}
}

static unsigned count(void)
{
	unsigned n;
	must("count", nvmlDeviceGetCount(&n));
	if (n > MAX_GPUS)
		fail("%u GPUs, want at most %d", n, MAX_GPUS);
	return n;
}

static nvmlDevice_t handle(unsigned i)
{
	nvmlDevice_t d;
	must("handle", nvmlDeviceGetHandleByIndex(i, &d));
	return d;
}

// The driver of this image knows no GPU with confidential computing but Hopper's.
static const char *arch(nvmlDevice_t d)
{
	nvmlDeviceArchitecture_t a;
	must("architecture", nvmlDeviceGetArchitecture(d, &a));
	if (a != NVML_DEVICE_ARCH_HOPPER)
		fail("a GPU of architecture %u: want Hopper (%d)", a, NVML_DEVICE_ARCH_HOPPER);
	return "HOPPER";
}

static void print_device(unsigned i, const char *text, const unsigned char nonce[32])
{
	static nvmlConfComputeGpuCertificate_t cert;
	static nvmlConfComputeGpuAttestationReport_t report;
	nvmlDevice_t d = handle(i);
	memset(&cert, 0, sizeof cert);
	memset(&report, 0, sizeof report);
	must("certificate", nvmlDeviceGetConfComputeGpuCertificate(d, &cert));
	memcpy(report.nonce, nonce, sizeof report.nonce);
	must("report", nvmlDeviceGetConfComputeGpuAttestationReport(d, &report));
	if (cert.attestationCertChainSize > sizeof cert.attestationCertChain || report.attestationReportSize > sizeof report.attestationReport)
		fail("GPU %u: NVML states sizes %u and %u, more than it has room for", i, cert.attestationCertChainSize, report.attestationReportSize);
	printf("%s{\"arch\": \"%s\", \"certificate\": \"", i ? ", " : "", arch(d));
	print_base64(cert.attestationCertChain, cert.attestationCertChainSize);
	fputs("\", \"evidence\": \"", stdout);
	print_base64(report.attestationReport, report.attestationReportSize);
	printf("\", \"nonce\": \"%s\"}", text);
}

// switches asks for what all switches say, and counts those that are not locked. Without the library there are none: the
// enclave, whose configuration says how many there must be, judges that.
static const switch_set *switches(const unsigned char nonce[32], int *unlocked)
{
	static switch_set set;
	*unlocked = 0;
	if (!collect_switches(nonce, &set))
		return &set; // empty
	if (set.failed)
		fail("switches: %s: NSCQ: code %d", set.failed, set.code);
	for (int i = 0; i < set.count; i++) {
		if (set.all[i].report.size > REPORT_MAX || set.all[i].chain.size > CHAIN_MAX)
			fail("switch %d: NSCQ states sizes %u and %u, more than it has room for", i, set.all[i].report.size, set.all[i].chain.size);
		*unlocked += set.all[i].mode != LOCKED;
	}
	return &set;
}

static void print_switch(const switch_set *set, int i, int first, const char *text)
{
	printf("%s{\"arch\": \"LS10\", \"certificate\": \"", first ? "" : ", ");
	print_base64(set->all[i].chain.data, set->all[i].chain.size);
	fputs("\", \"evidence\": \"", stdout);
	print_base64(set->all[i].report.data, set->all[i].report.size);
	printf("\", \"nonce\": \"%s\"}", text);
}

static void collect(const char *text)
{
	unsigned char nonce[32];
	int unlocked;
	read_nonce(text, nonce);
	nvmlSystemConfComputeSettings_t s = {.version = nvmlSystemConfComputeSettings_v1};
	must("settings", nvmlSystemGetConfComputeSettings(&s));
	unsigned n = count();
	// With protected PCIe the GPUs of a machine are in confidential computing together, and ccFeature says off.
	int on = s.ccFeature == NVML_CC_SYSTEM_FEATURE_ENABLED || s.multiGpuMode == NVML_CC_SYSTEM_MULTIGPU_PROTECTED_PCIE;
	const switch_set *set = switches(nonce, &unlocked);
	printf("{" SCHEMA ", \"state\": {\"confidential_compute\": %s, \"developer_tools\": %s, \"gpus\": %u, \"switches\": %d, \"switches_unlocked\": %d}, \"devices\": [",
	       on ? "true" : "false", s.devToolsMode == NVML_CC_SYSTEM_DEVTOOLS_MODE_OFF ? "false" : "true", n, set->count, unlocked);
	for (unsigned i = 0; on && i < n; i++) // otherwise there is nothing to collect, and the gate refuses for that reason
		print_device(i, text, nonce);
	for (int i = 0; i < set->count; i++)
		print_switch(set, i, i == 0 && (!on || n == 0), text);
	puts("]}");
}

static int print_processes(unsigned i, int first)
{
	static nvmlProcessInfo_t list[MAX_PROCESSES];
	unsigned n = MAX_PROCESSES;
	must("processes", nvmlDeviceGetComputeRunningProcesses(handle(i), &n, list));
	if (n > MAX_PROCESSES)
		fail("GPU %u: %u processes, want at most %d", i, n, MAX_PROCESSES);
	for (unsigned j = 0; j < n; j++, first = 0) {
		printf("%s{\"gpu\": %u, \"pid\": %u", first ? "" : ", ", i, list[j].pid);
		if (list[j].usedGpuMemory != (unsigned long long)NVML_VALUE_NOT_AVAILABLE)
			printf(", \"memory\": %llu", list[j].usedGpuMemory);
		putchar('}');
	}
	return first;
}

static void usage(void)
{
	unsigned n = count();
	int first = 1;
	fputs("{" SCHEMA ", \"processes\": [", stdout);
	for (unsigned i = 0; i < n; i++)
		first = print_processes(i, first);
	fputs("], \"used\": [", stdout);
	for (unsigned i = 0; i < n; i++) {
		// Not m.used: the driver's own share counts there or not, by the version, and an idle H200 has 615 MiB of it.
		nvmlMemory_v2_t m = {.version = nvmlMemory_v2};
		must("memory", nvmlDeviceGetMemoryInfo_v2(handle(i), &m));
		printf("%s%llu", i ? ", " : "", m.free + m.reserved < m.total ? m.total - m.free - m.reserved : 0);
	}
	puts("]}");
}

int main(int n, char **args)
{
	const char *verb = n > 1 ? args[1] : "", *word = n > 2 ? args[2] : "";
	int ready = !strcmp(verb, "ready") && n == 3 && (!strcmp(word, "on") || !strcmp(word, "off"));
	if (!ready && !(!strcmp(verb, "collect") && n == 3) && !(!strcmp(verb, "usage") && n == 2))
		fail("want collect NONCE, ready on|off, or usage");
	must("init", nvmlInit());
	if (ready)
		must("ready state", nvmlSystemSetConfComputeGpusReadyState(strcmp(word, "on") ? NVML_CC_ACCEPTING_CLIENT_REQUESTS_FALSE
										 : NVML_CC_ACCEPTING_CLIENT_REQUESTS_TRUE));
	else if (n == 3)
		collect(word);
	else
		usage();
	nvmlShutdown();
	if (fflush(stdout) || ferror(stdout))
		fail("its answer could not be written");
	return 0;
}
