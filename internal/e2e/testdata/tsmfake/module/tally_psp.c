// SPDX-License-Identifier: GPL-2.0
/*
 * Test only: a provider of configfs-tsm reports that calls itself sev_guest and asks a simulated AMD secure
 * processor on the host, over the second serial port, polled.
 *
 * A request is the 64 bytes of REPORTDATA. The answer is two lengths (u32, little-endian), the report and the
 * certificates that a host adds.
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

#define REQUEST 64

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

/* The core serialises requests, and frees what the report points to. */
static int psp_report(struct tsm_report *report, void *data)
{
	struct tsm_desc *desc = &report->desc;
	u8 head[8];
	int rc;

	if (desc->inblob_len != REQUEST)
		return -EINVAL;
	rc = send(desc->inblob, REQUEST);
	if (!rc)
		rc = receive(head, sizeof(head));
	if (rc)
		return rc;
	report->outblob_len = get_unaligned_le32(head);
	report->auxblob_len = get_unaligned_le32(head + 4);
	if (!report->outblob_len || report->outblob_len > TSM_OUTBLOB_MAX || report->auxblob_len > TSM_OUTBLOB_MAX)
		return -EIO;
	report->outblob = kvzalloc(report->outblob_len, GFP_KERNEL);
	report->auxblob = kvzalloc(report->auxblob_len, GFP_KERNEL);
	if (!report->outblob || !report->auxblob)
		return -ENOMEM;
	rc = receive(report->outblob, report->outblob_len);
	return rc ?: receive(report->auxblob, report->auxblob_len);
}

static bool attr_visible(int n)
{
	return n == TSM_REPORT_GENERATION || n == TSM_REPORT_PROVIDER || n == TSM_REPORT_PRIVLEVEL || n == TSM_REPORT_PRIVLEVEL_FLOOR;
}

static bool bin_attr_visible(int n)
{
	return n == TSM_REPORT_INBLOB || n == TSM_REPORT_OUTBLOB || n == TSM_REPORT_AUXBLOB;
}

static struct tsm_ops ops = {
	.name = "sev_guest",
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
