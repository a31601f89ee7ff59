// SPDX-License-Identifier: GPL-2.0
/*
 * Test only: a provider of configfs-tsm reports that calls itself sev_guest and asks a simulated AMD secure
 * processor on the host, over the second serial port, polled.
 *
 * A request is MAGIC (before it may come what firmware wrote to its console), a byte, 0 for a report of the guest
 * and 1 for one of the SVSM about its TPM, and the 64 bytes of REPORTDATA or nonce. The answer is three lengths
 * (u32, little-endian), the report, the certificates that a host adds, and the SVSM's manifest.
 */
#include <linux/delay.h>
#include <linux/io.h>
#include <linux/jiffies.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/tsm.h>
#include <linux/unaligned.h>

/* A 16550 and some of its registers. */
#define UART 0x2f8
#define IER (UART + 1)
#define FCR (UART + 2)
#define LCR (UART + 3)
#define MCR (UART + 4)
#define LSR (UART + 5)
#define LSR_READ 0x01
#define LSR_WRITE 0x20

#define MAGIC "TALLYPSP"
#define REQUEST 64

static const guid_t tpm_service = GUID_INIT(0xc476f1eb, 0x0123, 0x45a5, 0x96, 0x41, 0xb4, 0xe7, 0xdd, 0xe5, 0xbf, 0xe3);

static int await_line(u8 bit)
{
	unsigned long end = jiffies + 30 * HZ;

	while (!(inb(LSR) & bit)) {
		if (time_after(jiffies, end))
			return -ETIMEDOUT;
		usleep_range(50, 100);
	}
	return 0;
}

static int send(const u8 *b, size_t n)
{
	for (; n; n--, b++) {
		int rc = await_line(LSR_WRITE);

		if (rc)
			return rc;
		outb(*b, UART);
	}
	return 0;
}

static int receive(u8 *b, size_t n)
{
	for (; n; n--, b++) {
		int rc = await_line(LSR_READ);

		if (rc)
			return rc;
		*b = inb(UART);
	}
	return 0;
}

static int receive_new(u8 **b, size_t n)
{
	if (n > TSM_OUTBLOB_MAX)
		return -EIO;
	*b = kvzalloc(n, GFP_KERNEL);
	return *b ? receive(*b, n) : -ENOMEM;
}

/* The core serialises requests, and frees what the report points to. */
static int psp_report(struct tsm_report *report, void *data)
{
	struct tsm_desc *desc = &report->desc;
	u8 head[12], kind = 0;
	int rc;

	if (desc->inblob_len != REQUEST)
		return -EINVAL;
	if (desc->service_provider) {
		if (strcmp(desc->service_provider, "svsm") || !guid_equal(&desc->service_guid, &tpm_service) || desc->service_manifest_version)
			return -EINVAL;
		kind = 1;
	}
	rc = send(MAGIC, sizeof(MAGIC) - 1);
	if (!rc)
		rc = send(&kind, 1);
	if (!rc)
		rc = send(desc->inblob, REQUEST);
	if (!rc)
		rc = receive(head, sizeof(head));
	if (rc)
		return rc;
	report->outblob_len = get_unaligned_le32(head);
	report->auxblob_len = get_unaligned_le32(head + 4);
	report->manifestblob_len = get_unaligned_le32(head + 8);
	rc = receive_new(&report->outblob, report->outblob_len);
	if (!rc)
		rc = receive_new(&report->auxblob, report->auxblob_len);
	if (!rc && kind)
		rc = receive_new(&report->manifestblob, report->manifestblob_len);
	return rc;
}

static bool attr_visible(int n)
{
	return n <= TSM_REPORT_SERVICE_MANIFEST_VER;
}

static bool bin_attr_visible(int n)
{
	return n <= TSM_REPORT_MANIFESTBLOB;
}

static struct tsm_ops ops = {
	.name = "sev_guest",
	.privlevel_floor = 2, /* as of a guest under an SVSM */
	.report_new = psp_report,
	.report_attr_visible = attr_visible,
	.report_bin_attr_visible = bin_attr_visible,
};

static int __init psp_init(void)
{
	outb(0, IER);
	outb(3, LCR); /* 8N1 */
	outb(7, FCR); /* FIFOs, emptied */
	outb(3, MCR);
	return tsm_register(&ops, NULL);
}

static void __exit psp_exit(void)
{
	tsm_unregister(&ops);
}

module_init(psp_init);
module_exit(psp_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("simulated AMD secure processor, for tests");
