/* PID 1: says how it was compiled, loads the module that the other step made, and ends. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(void)
{
	int fd = open("/usr/lib/modules/tally_hello.ko", O_RDONLY);

	printf("init: compiled on %s at %s from %s\n", __DATE__, __TIME__, __FILE__);
	if (fd < 0 || syscall(SYS_finit_module, fd, "", 0) != 0)
		printf("init: module: %s\n", strerror(errno));
	else
		printf("init: module: loaded\n");
	fflush(stdout);
	return reboot(RB_POWER_OFF);
}
