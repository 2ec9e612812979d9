/* A disk with a fault, while the file that DISK_FAULT names is there. It holds the number of the error that
 * each write to a place in a file, and each wait for the disk, fails with; with 0 they only take a tenth of
 * a second longer. DISK_FAULT_HIT names a file that is made when the first was hit. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static int is_refused(void)
{
    const struct timespec tenth = {0, 100 * 1000 * 1000};
    const char *fault = getenv("DISK_FAULT"), *hit = getenv("DISK_FAULT_HIT");
    char number[8] = "";
    int file = fault && hit ? open(fault, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0)
        return 0;
    if (read(file, number, sizeof number - 1) < 0)
        number[0] = 0;
    close(file);
    close(open(hit, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    if (atoi(number) == 0) {
        nanosleep(&tenth, NULL);
        return 0;
    }
    errno = atoi(number);
    return 1;
}

ssize_t pwrite64(int file, const void *bytes, size_t count, off64_t at)
{
    ssize_t (*real)(int, const void *, size_t, off64_t) = dlsym(RTLD_NEXT, "pwrite64");
    return is_refused() ? -1 : real(file, bytes, count, at);
}

ssize_t pwrite(int file, const void *bytes, size_t count, off_t at)
{
    ssize_t (*real)(int, const void *, size_t, off_t) = dlsym(RTLD_NEXT, "pwrite");
    return is_refused() ? -1 : real(file, bytes, count, at);
}

int fsync(int file)
{
    int (*real)(int) = dlsym(RTLD_NEXT, "fsync");
    return is_refused() ? -1 : real(file);
}

int fdatasync(int file)
{
    int (*real)(int) = dlsym(RTLD_NEXT, "fdatasync");
    return is_refused() ? -1 : real(file);
}
