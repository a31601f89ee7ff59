// What examples/gpu/helper uses of NVIDIA's nvml.h (CUDA 12.4), declared again so that a test can compile it where Debian's
// libnvidia-ml-dev is not installed. Sizes of the arrays and order of the members are that header's; the image is compiled
// with the header itself.
typedef int nvmlReturn_t;
typedef struct nvmlDevice_st *nvmlDevice_t;
typedef unsigned nvmlDeviceArchitecture_t;

#define NVML_SUCCESS 0
#define NVML_ERROR_UNKNOWN 999
#define NVML_DEVICE_ARCH_HOPPER 9
#define NVML_VALUE_NOT_AVAILABLE (-1)
#define NVML_CC_SYSTEM_FEATURE_ENABLED 1
#define NVML_CC_SYSTEM_DEVTOOLS_MODE_OFF 0
#define NVML_CC_SYSTEM_MULTIGPU_PROTECTED_PCIE 1
#define NVML_CC_ACCEPTING_CLIENT_REQUESTS_FALSE 0
#define NVML_CC_ACCEPTING_CLIENT_REQUESTS_TRUE 1
#define nvmlMemory_v2 (unsigned)(sizeof(nvmlMemory_v2_t) | 2 << 24)
#define nvmlSystemConfComputeSettings_v1 (unsigned)(sizeof(nvmlSystemConfComputeSettings_t) | 1 << 24)

typedef struct { unsigned version, environment, ccFeature, devToolsMode, multiGpuMode; } nvmlSystemConfComputeSettings_t;
typedef struct { unsigned certChainSize, attestationCertChainSize; unsigned char certChain[0x1000], attestationCertChain[0x1400]; } nvmlConfComputeGpuCertificate_t;
typedef struct {
	unsigned isCecAttestationReportPresent, attestationReportSize, cecAttestationReportSize;
	unsigned char nonce[32], attestationReport[0x2000], cecAttestationReport[0x1000];
} nvmlConfComputeGpuAttestationReport_t;
typedef struct { unsigned pid; unsigned long long usedGpuMemory; unsigned gpuInstanceId, computeInstanceId; } nvmlProcessInfo_t;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } nvmlMemory_v2_t;

const char *nvmlErrorString(nvmlReturn_t r);
nvmlReturn_t nvmlInit(void);
nvmlReturn_t nvmlShutdown(void);
nvmlReturn_t nvmlDeviceGetCount(unsigned *n);
nvmlReturn_t nvmlDeviceGetHandleByIndex(unsigned i, nvmlDevice_t *d);
nvmlReturn_t nvmlDeviceGetArchitecture(nvmlDevice_t d, nvmlDeviceArchitecture_t *a);
nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t d, nvmlMemory_v2_t *m);
nvmlReturn_t nvmlDeviceGetComputeRunningProcesses(nvmlDevice_t d, unsigned *n, nvmlProcessInfo_t *list);
nvmlReturn_t nvmlDeviceGetConfComputeGpuCertificate(nvmlDevice_t d, nvmlConfComputeGpuCertificate_t *c);
nvmlReturn_t nvmlDeviceGetConfComputeGpuAttestationReport(nvmlDevice_t d, nvmlConfComputeGpuAttestationReport_t *r);
nvmlReturn_t nvmlSystemGetConfComputeSettings(nvmlSystemConfComputeSettings_t *s);
nvmlReturn_t nvmlSystemSetConfComputeGpusReadyState(unsigned accepting);
