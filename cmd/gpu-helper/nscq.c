//go:build nvml

#include "nscq.h"

#include <dlfcn.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

typedef void (*callback)(void);

static struct {
	nscq_session (*create)(uint32_t);
	void (*destroy)(void *);
	int8_t (*observe)(void *, const char *, callback, void *, uint32_t);
	int8_t (*set_input)(void *, uint32_t, void *, uint32_t);
	int8_t (*to_label)(const nscq_uuid *, nscq_label *, uint32_t);
} lib;

/* reading is what the library's callbacks write into, one at a time. calls counts them: a path that names one device calls once. */
typedef struct {
	switch_set *set;
	int index, calls, code;
} reading;

static void note(reading *r, int8_t rc) {
	r->calls++;
	if (rc != 0 && r->code == 0)
		r->code = rc;
}

static void on_uuid(const nscq_uuid *device, int8_t rc, const nscq_uuid *uuid, void *to) {
	reading *r = to;
	(void)device;
	note(r, rc);
	if (r->code != 0)
		return;
	if (r->set->count == SWITCHES || uuid == NULL) {
		r->code = -4;
		return;
	}
	nscq_label *label = &r->set->all[r->set->count].label;
	rc = lib.to_label(uuid, label, 0);
	label->text[sizeof label->text - 1] = 0;
	if (rc != 0 || label->text[0] == 0)
		r->code = rc != 0 ? rc : -2;
	else
		r->set->count++;
}

static void on_mode(const nscq_uuid *device, int8_t rc, int8_t mode, void *to) {
	reading *r = to;
	(void)device;
	note(r, rc);
	r->set->all[r->index].mode = mode;
}

/* Report and chain are passed by value. */
static void on_chain(const nscq_uuid *device, int8_t rc, const nscq_chain chain, void *to) {
	reading *r = to;
	(void)device;
	note(r, rc);
	r->set->all[r->index].chain = chain;
}

static void on_report(const nscq_uuid *device, int8_t rc, const nscq_report report, void *to) {
	reading *r = to;
	(void)device;
	note(r, rc);
	r->set->all[r->index].report = report;
}

static int fail(switch_set *out, const char *what, int code) {
	out->failed = what;
	out->code = code;
	return 1;
}

/* read_one has one value of switch i read. */
static int read_one(void *session, switch_set *out, int i, const char *what, callback to) {
	char path[160];
	reading r = {out, i, 0, 0};
	snprintf(path, sizeof path, "/%s/config/%s", out->all[i].label.text, what);
	int8_t rc = lib.observe(session, path, to, &r, 0);
	if (rc != 0 || r.code != 0 || r.calls != 1)
		return fail(out, what, rc != 0 ? rc : r.code);
	return 0;
}

static void collect(void *session, const uint8_t nonce[32], switch_set *out) {
	reading r = {out, 0, 0, 0};
	int8_t rc = lib.observe(session, "/drv/nvswitch/{device}/uuid", (callback)on_uuid, &r, 0);
	if (rc != 0 || r.code != 0) {
		fail(out, "list of switches", rc != 0 ? rc : r.code);
		return;
	}
	for (int i = 0; i < out->count; i++) {
		uint8_t input[32];
		memcpy(input, nonce, sizeof input);
		rc = lib.set_input(session, 0, input, sizeof input);
		if (rc != 0) {
			fail(out, "nonce", rc);
			return;
		}
		if (read_one(session, out, i, "pcie_mode", (callback)on_mode) || read_one(session, out, i, "certificate", (callback)on_chain) ||
		    read_one(session, out, i, "attestation_report", (callback)on_report))
			return;
	}
}

int collect_switches(const uint8_t nonce[32], switch_set *out) {
	memset(out, 0, sizeof *out);
	void *handle = dlopen("libnvidia-nscq.so.2", RTLD_NOW | RTLD_LOCAL);
	if (handle == NULL)
		return 0;
	struct { const char *name; void *to; } symbols[] = {
		{"nscq_session_create", &lib.create}, {"nscq_session_destroy", &lib.destroy}, {"nscq_session_path_observe", &lib.observe},
		{"nscq_session_set_input", &lib.set_input}, {"nscq_uuid_to_label", &lib.to_label},
	};
	for (size_t i = 0; i < sizeof symbols / sizeof *symbols; i++) {
		void *s = dlsym(handle, symbols[i].name);
		if (s == NULL)
			return fail(out, symbols[i].name, 0);
		memcpy(symbols[i].to, &s, sizeof s);
	}
	nscq_session s = lib.create(1); /* with all devices */
	if (s.rc < 0 || s.session == NULL)
		return fail(out, "session", s.rc);
	collect(s.session, nonce, out);
	lib.destroy(s.session);
	return 1;
}
