/* A fake libnvidia-nscq.so.2: switches are the files switchN.report and switchN.chain of the directory $FAKE. $FAKE_NSCQ spoils it: the
 * path that fails, or "mode" for switches that are protected and not locked. Laid out as nscq_attestation.h of the vendor's attestation
 * tools describes, by hand. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct { uint8_t bytes[16]; } uuid;
typedef struct { char data[64]; } label;
typedef struct { uint32_t size; uint8_t data[0x2000]; } report;
typedef struct { uint8_t data[0x1400]; uint32_t size; } chain;
typedef struct { int8_t rc; void *session; } session;

static struct { uint8_t nonce[32]; int has; } state;

static long load(const char *what, int i, uint8_t *to, size_t room) {
	char path[4096];
	snprintf(path, sizeof path, "%s/switch%d.%s", getenv("FAKE"), i, what);
	FILE *f = fopen(path, "rb");
	if (f == NULL)
		return -1;
	long n = fread(to, 1, room, f);
	fclose(f);
	return n;
}

static int spoilt(const char *what) {
	const char *s = getenv("FAKE_NSCQ");
	return s != NULL && strcmp(s, what) == 0;
}

session nscq_session_create(uint32_t flags) {
	session s = {flags == 1 && !spoilt("create") ? 1 : -7, &state}; /* 1: a caveat */
	return s;
}

void nscq_session_destroy(void *s) { (void)s; }

int8_t nscq_session_set_input(void *s, uint32_t flags, void *data, uint32_t size) {
	(void)s;
	if (flags != 0 || size != sizeof state.nonce || spoilt("input"))
		return -5;
	memcpy(state.nonce, data, size);
	state.has = 1;
	return 0;
}

int8_t nscq_uuid_to_label(const uuid *u, label *l, uint32_t flags) {
	(void)flags;
	snprintf(l->data, sizeof l->data, "SWX-%d", u->bytes[0]);
	return 0;
}

static uuid id(int i) {
	uuid u = {{(uint8_t)i}};
	return u;
}

int8_t nscq_session_path_observe(void *s, const char *path, void (*to)(void), void *data, uint32_t flags) {
	uint8_t b;
	int i = 0, n = 0;
	(void)s, (void)flags;
	if (strcmp(path, "/drv/nvswitch/{device}/uuid") == 0) {
		for (; load("chain", i, &b, 1) >= 0; i++) {
			uuid u = id(i);
			((void (*)(const uuid *, int8_t, const uuid *, void *))to)(&u, 0, &u, data);
		}
		return 0;
	}
	if (sscanf(path, "/SWX-%d/config/%n", &i, &n) != 1 || n == 0)
		return -2;
	uuid u = id(i);
	const char *what = path + n;
	if (spoilt(what))
		return -7;
	if (strcmp(what, "pcie_mode") == 0) {
		((void (*)(const uuid *, int8_t, int8_t, void *))to)(&u, 0, spoilt("mode") ? 1 : 3, data);
	} else if (strcmp(what, "certificate") == 0) {
		chain c = {{0}, 0};
		c.size = load("chain", i, c.data, sizeof c.data);
		((void (*)(const uuid *, int8_t, const chain, void *))to)(&u, 0, c, data);
	} else if (strcmp(what, "attestation_report") == 0) {
		report r = {0, {0}};
		r.size = load("report", i, r.data, sizeof r.data);
		int8_t rc = state.has && memcmp(state.nonce, r.data + 4, sizeof state.nonce) == 0 ? 0 : -5;
		((void (*)(const uuid *, int8_t, const report, void *))to)(&u, rc, r, data);
	} else {
		return -1;
	}
	return 0;
}
