/* What NVIDIA's switch library (libnvidia-nscq.so.2, API 2.0) takes and gives, as far as this helper asks it. The library comes without
 * a header; names, sizes and paths are those that the vendor's attestation tools use (nvtrust, attestation-sdk). Codes: 0 is
 * success, above 0 success with a caveat, below 0 failure. */
#include <stdint.h>

#define SWITCHES 32
#define REPORT_MAX 0x2000
#define CHAIN_MAX 0x1400
#define LOCKED 3 /* bit 0: protected, bit 1: locked */

typedef struct { uint8_t bytes[16]; } nscq_uuid;
typedef struct { char text[64]; } nscq_label;
typedef struct { uint32_t size; uint8_t data[REPORT_MAX]; } nscq_report;
typedef struct { uint8_t data[CHAIN_MAX]; uint32_t size; } nscq_chain;
typedef struct { int8_t rc; void *session; } nscq_session;

/* switch_set is what collect_switches fills in. */
typedef struct {
	int count;
	struct {
		nscq_label label;
		int8_t mode;
		nscq_report report;
		nscq_chain chain;
	} all[SWITCHES];
	const char *failed; /* what could not be done; NULL: nothing */
	int code;
} switch_set;

/* collect_switches asks every switch with the nonce. It returns 0 where the library is not installed, which says that there are none, and
 * 1 otherwise. */
int collect_switches(const uint8_t nonce[32], switch_set *out);
