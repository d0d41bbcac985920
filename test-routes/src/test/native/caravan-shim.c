// SPDX-License-Identifier: Apache-2.0
//
// Loaded into a gateway with LD_PRELOAD. Of the files in one folder it records, in the order in which they happened, all
// writes, changes of length and of names, and syncs; and it breaks such calls, delays syncs and shifts the wall clock as a
// control page says. Everything else of the process is untouched. glibc, 64 bit.
//
//   SHIM_DIR      the folder, absolute, without symbolic links
//   SHIM_LOG      the record, appended to while the control page says so
//   SHIM_CONTROL  a file of one page, mapped: see the enumeration below, and Shim.java which writes it
//
// cc -shared -fPIC -O2 -Wall -o caravan-shim.so caravan-shim.c -ldl -lpthread

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { SYNC_DELAY_US, LIE, OPS, ERROR, FIRST, COUNT, KINDS, SHORT, CLOCK_NS, RECORDING, // set from outside
    SEEN = 16, FIRED, WRITES, SYNCS, RECORDS, LOADED, LOG_ERROR };           // answers
enum { OP_WRITE = 1, OP_SYNC = 2, OP_CREATE = 4, OP_LENGTH = 8, OP_NAMES = 16, OP_READ = 32 };
enum { KIND_STORE = 1, KIND_WAL = 2, KIND_SHM = 4, KIND_DIRECTORY = 8, KIND_OTHER = 16 };
enum { R_OPEN = 1, R_WRITE, R_LENGTH, R_UNLINK, R_RENAME, R_MKDIR, R_SYNC_BEGIN, R_SYNC_END, R_MAPPED, R_INDEX, R_GROW, R_SYNC_FAILED };

// What the replayer reads; native byte order. Data of `length` bytes follows.
struct record {
    uint32_t type, pid;
    uint64_t stamp;  // CLOCK_MONOTONIC, ns
    uint64_t file;   // of this process; 0: none
    uint64_t offset; // R_OPEN: 1 = created, 2 = emptied, 4 = a folder; R_RENAME: length of the first name; R_SYNC_END: number of its begin
    uint64_t length;
};

enum { FILES = 65536, INDEX_BYTES = 136 };
static struct { uint32_t id, kind; char *name; int64_t noted; } fds[FILES];
static char index_path[4096];
static const char *folder;
static size_t folder_length;
static int log_fd = -1;
static volatile int64_t *control;
static uint32_t ids;
static uint64_t syncs;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int (*real_clock)(clockid_t, struct timespec *);
static int (*real_timed_wait)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);

__attribute__((constructor)) static void load(void) {
    real_clock = (int (*)(clockid_t, struct timespec *)) dlsym(RTLD_NEXT, "clock_gettime");
    // Its first version has another layout; dlsym alone may find that one.
    real_timed_wait = (int (*)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *)) dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
    if (!real_timed_wait) {
        real_timed_wait = (int (*)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *)) dlsym(RTLD_NEXT, "pthread_cond_timedwait");
    }
    const char *page = getenv("SHIM_CONTROL");
    int fd = page ? syscall(SYS_openat, AT_FDCWD, page, O_RDWR | O_CLOEXEC, 0) : -1;
    if (fd >= 0) {
        void *mapped = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        control = mapped == MAP_FAILED ? NULL : mapped;
        close(fd);
    }
    const char *directory = getenv("SHIM_DIR");
    if (!directory) {
        return;
    }
    const char *log = getenv("SHIM_LOG");
    if (log) {
        log_fd = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    }
    folder_length = strlen(directory);
    folder = strdup(directory);
}

static void count(int what) {
    if (control) {
        __atomic_add_fetch(&control[what], 1, __ATOMIC_RELAXED);
    }
}

static void now(clockid_t clock, struct timespec *t) {
    if (!real_clock || real_clock(clock, t)) {
        syscall(SYS_clock_gettime, clock, t);
    }
}

static uint64_t stamp(void) {
    struct timespec t;
    now(CLOCK_MONOTONIC, &t);
    return t.tv_sec * UINT64_C(1000000000) + t.tv_nsec;
}

static int64_t recording(void) {
    return log_fd >= 0 && control ? control[RECORDING] : 0;
}

// With the lock held, so that the record's order is the order of what happened.
static void put(int type, uint64_t file, uint64_t offset, const struct iovec *data, int parts) {
    if (!recording()) {
        return;
    }
    struct record r = {type, getpid(), stamp(), file, offset, 0};
    struct iovec all[18] = {{&r, sizeof r}};
    for (int i = 0; i < parts; i++) {
        all[i + 1] = data[i];
        r.length += data[i].iov_len;
    }
    ssize_t whole = sizeof r + r.length;
    if (syscall(SYS_writev, log_fd, all, parts + 1) != whole && control) {
        control[LOG_ERROR] = 1; // a record with a hole proves nothing
    }
    count(RECORDS);
}

static void put_bytes(int type, uint64_t file, uint64_t offset, const void *data, size_t length) {
    struct iovec v = {(void *) data, length};
    put(type, file, offset, &v, length ? 1 : 0);
}

/** Of an open file; one that was opened before this recording began is named first. */
static void put_file(int type, int fd, uint64_t offset, const void *data, size_t length) {
    if (!recording() || !fds[fd].name) {
        return; // a file whose name is gone cannot be there after a crash
    }
    if (fds[fd].noted != control[RECORDING]) {
        fds[fd].noted = control[RECORDING];
        put_bytes(R_OPEN, fds[fd].id, fds[fd].kind == KIND_DIRECTORY ? 4 : 0, fds[fd].name, strlen(fds[fd].name));
    }
    put_bytes(type, fds[fd].id, offset, data, length);
}

/** With the lock held: what the open file of this name is called from now on; NULL: nothing. */
static void renamed(const char *name, const char *now) {
    for (int fd = 0; fd < FILES; fd++) {
        if (fds[fd].id && fds[fd].name && !strcmp(fds[fd].name, name)) {
            free(fds[fd].name);
            fds[fd].name = now ? strdup(now) : NULL;
        }
    }
}

/** The name within the folder, "" for the folder itself, NULL for what is not in it. */
static const char *inside(const char *path) {
    if (!folder || !path || strncmp(path, folder, folder_length)) {
        return NULL;
    }
    path += folder_length;
    return !*path ? path : *path == '/' ? path + 1 : NULL;
}

static int ends(const char *name, const char *end) {
    size_t n = strlen(name), e = strlen(end);
    return n >= e && !strcmp(name + n - e, end);
}

static int kind_of(const char *name) {
    return ends(name, "-wal") ? KIND_WAL : ends(name, "-shm") ? KIND_SHM : ends(name, ".db") ? KIND_STORE : KIND_OTHER;
}

static uint32_t id_of(int fd) {
    return fd >= 0 && fd < FILES ? fds[fd].id : 0;
}

static int fault(int op, int kind) {
    if (!control || !(control[OPS] & op) || (control[KINDS] && !(control[KINDS] & kind))) {
        return 0;
    }
    int64_t n = __atomic_add_fetch(&control[SEEN], 1, __ATOMIC_SEQ_CST);
    if (n < control[FIRST] || (control[COUNT] && n >= control[FIRST] + control[COUNT])) {
        return 0;
    }
    count(FIRED);
    return control[ERROR];
}

static int failed(int error) {
    errno = error;
    return -1;
}

// ---- names

static int open_at(int at, const char *path, int flags, mode_t mode) {
    const char *name = at == AT_FDCWD || (path && *path == '/') ? inside(path) : NULL;
    if (!name) {
        return syscall(SYS_openat, at, path, flags, mode);
    }
    int kind = kind_of(name);
    pthread_mutex_lock(&lock);
    int there = !syscall(SYS_faccessat, AT_FDCWD, path, F_OK);
    int error = (flags & O_CREAT) && !there ? fault(OP_CREATE, kind) : 0;
    if (!error && (flags & O_ACCMODE) != O_RDONLY && control && control[ERROR] == EROFS) {
        error = fault(OP_WRITE, kind);
    }
    int fd = error ? failed(error) : syscall(SYS_openat, at, path, flags, mode);
    if (fd >= 0 && fd < FILES) {
        struct stat about;
        int is_folder = !fstat(fd, &about) && S_ISDIR(about.st_mode);
        fds[fd].id = ++ids;
        fds[fd].kind = is_folder ? KIND_DIRECTORY : kind;
        if (kind == KIND_SHM) {
            strncpy(index_path, path, sizeof index_path - 1);
        }
        fds[fd].name = strdup(name);
        fds[fd].noted = recording();
        put_bytes(R_OPEN, ids, (there ? 0 : 1) | (flags & O_TRUNC ? 2 : 0) | (is_folder ? 4 : 0), name, strlen(name));
    }
    pthread_mutex_unlock(&lock);
    return fd;
}

static mode_t mode_in(int flags, va_list more) {
    return flags & (O_CREAT | __O_TMPFILE) ? va_arg(more, mode_t) : 0;
}

#define OPEN(function) int function(const char *path, int flags, ...) { \
    va_list more; va_start(more, flags); mode_t mode = mode_in(flags, more); va_end(more); return open_at(AT_FDCWD, path, flags, mode); }
#define OPENAT(function) int function(int at, const char *path, int flags, ...) { \
    va_list more; va_start(more, flags); mode_t mode = mode_in(flags, more); va_end(more); return open_at(at, path, flags, mode); }
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

int close(int fd) {
    if (!id_of(fd)) {
        return syscall(SYS_close, fd);
    }
    pthread_mutex_lock(&lock);
    fds[fd].id = 0;
    free(fds[fd].name);
    fds[fd].name = NULL;
    int result = syscall(SYS_close, fd);
    pthread_mutex_unlock(&lock);
    return result;
}

static int remove_at(int at, const char *path, int flags) {
    const char *name = at == AT_FDCWD ? inside(path) : NULL;
    if (!name) {
        return syscall(SYS_unlinkat, at, path, flags);
    }
    pthread_mutex_lock(&lock);
    int error = fault(OP_NAMES, kind_of(name));
    int result = error ? failed(error) : syscall(SYS_unlinkat, at, path, flags);
    if (!result) {
        put_bytes(R_UNLINK, 0, 0, name, strlen(name));
        renamed(name, NULL);
    }
    pthread_mutex_unlock(&lock);
    return result;
}

int unlink(const char *path) { return remove_at(AT_FDCWD, path, 0); }
int unlinkat(int at, const char *path, int flags) { return remove_at(at, path, flags); }
int rmdir(const char *path) { return remove_at(AT_FDCWD, path, AT_REMOVEDIR); }
int remove(const char *path) { int result = unlink(path); return result && errno == EISDIR ? rmdir(path) : result; }

int rename(const char *from, const char *to) {
    const char *a = inside(from), *b = inside(to);
    if (!a && !b) {
        return syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
    }
    pthread_mutex_lock(&lock);
    int error = fault(OP_NAMES, kind_of(to));
    int result = error ? failed(error) : syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
    if (!result) {
        // Into or out of the folder: an empty name, which the replayer refuses.
        struct iovec names[2] = {{(void *) (a ? a : ""), a ? strlen(a) : 0}, {(void *) (b ? b : ""), b ? strlen(b) : 0}};
        put(R_RENAME, 0, names[0].iov_len, names, 2);
        if (b) {
            renamed(b, NULL);
        }
        if (a) {
            renamed(a, b);
        }
    }
    pthread_mutex_unlock(&lock);
    return result;
}

int mkdir(const char *path, mode_t mode) {
    const char *name = inside(path);
    int error = name ? fault(OP_CREATE, KIND_DIRECTORY) : 0;
    if (!name || error) {
        return error ? failed(error) : syscall(SYS_mkdirat, AT_FDCWD, path, mode);
    }
    pthread_mutex_lock(&lock);
    int result = syscall(SYS_mkdirat, AT_FDCWD, path, mode);
    if (!result && *name) {
        put_bytes(R_MKDIR, 0, 0, name, strlen(name));
    }
    pthread_mutex_unlock(&lock);
    return result;
}

int access(const char *path, int mode) {
    // A file system that was taken read-only says so here as well; this look is not one of the calls that are counted.
    if ((mode & W_OK) && control && (control[OPS] & OP_WRITE) && control[ERROR] == EROFS && !control[COUNT] && control[SEEN] + 1 >= control[FIRST] && inside(path)) {
        return failed(EROFS);
    }
    return syscall(SYS_faccessat, AT_FDCWD, path, mode);
}

// ---- content

static ssize_t write_at(int fd, const void *data, size_t length, off_t at, int positioned) {
    if (!id_of(fd)) {
        return positioned ? syscall(SYS_pwrite64, fd, data, length, at) : syscall(SYS_write, fd, data, length);
    }
    pthread_mutex_lock(&lock);
    count(WRITES);
    off_t where = positioned ? at : syscall(SYS_fcntl, fd, F_GETFL) & O_APPEND ? lseek(fd, 0, SEEK_END) : lseek(fd, 0, SEEK_CUR);
    int error = fault(OP_WRITE, fds[fd].kind);
    // Where a disk ends it takes what still fits.
    size_t fits = error && control[SHORT] ? (size_t) control[SHORT] : 0;
    ssize_t result = -1;
    if (!error || fits) {
        size_t some = error && fits < length ? fits : length;
        result = positioned ? syscall(SYS_pwrite64, fd, data, some, at) : syscall(SYS_write, fd, data, some);
        if (result > 0) {
            put_file(R_WRITE, fd, where, data, result);
        }
        if (error && fits) {
            control[SHORT] = 0; // the next one gets nothing any more
        }
    } else {
        errno = error;
    }
    int keep = errno;
    pthread_mutex_unlock(&lock);
    errno = keep;
    return result;
}

ssize_t write(int fd, const void *data, size_t length) { return write_at(fd, data, length, 0, 0); }
ssize_t pwrite(int fd, const void *data, size_t length, off_t at) { return write_at(fd, data, length, at, 1); }
ssize_t pwrite64(int fd, const void *data, size_t length, off_t at) { return write_at(fd, data, length, at, 1); }

ssize_t writev(int fd, const struct iovec *parts, int n) {
    if (!id_of(fd)) {
        return syscall(SYS_writev, fd, parts, n);
    }
    ssize_t all = 0;
    for (int i = 0; i < n; i++) {
        ssize_t some = write(fd, parts[i].iov_base, parts[i].iov_len);
        if (some < 0) {
            return all ? all : some;
        }
        all += some;
        if ((size_t) some < parts[i].iov_len) {
            break;
        }
    }
    return all;
}

static ssize_t broken_read(int fd) {
    int error = id_of(fd) ? fault(OP_READ, fds[fd].kind) : 0;
    return error ? failed(error) : 0;
}

ssize_t pread(int fd, void *into, size_t length, off_t at) { return broken_read(fd) ? -1 : syscall(SYS_pread64, fd, into, length, at); }
ssize_t pread64(int fd, void *into, size_t length, off_t at) { return broken_read(fd) ? -1 : syscall(SYS_pread64, fd, into, length, at); }

static int change_length(int fd, off_t length, int grow) {
    pthread_mutex_lock(&lock);
    int error = fault(OP_LENGTH, fds[fd].kind);
    int result = error ? failed(error) : grow ? syscall(SYS_fallocate, fd, 0, 0, length) : syscall(SYS_ftruncate, fd, length);
    if (!result) {
        put_file(grow ? R_GROW : R_LENGTH, fd, length, NULL, 0);
    }
    pthread_mutex_unlock(&lock);
    return result;
}

int ftruncate(int fd, off_t length) { return id_of(fd) ? change_length(fd, length, 0) : syscall(SYS_ftruncate, fd, length); }
int ftruncate64(int fd, off_t length) { return ftruncate(fd, length); }
int fallocate(int fd, int mode, off_t from, off_t length) {
    return id_of(fd) && !mode ? change_length(fd, from + length, 1) : syscall(SYS_fallocate, fd, mode, from, length);
}
int fallocate64(int fd, int mode, off_t from, off_t length) { return fallocate(fd, mode, from, length); }
int posix_fallocate(int fd, off_t from, off_t length) {
    int keep = errno, error = fallocate(fd, 0, from, length) ? errno : 0;
    errno = keep;
    return error;
}
int posix_fallocate64(int fd, off_t from, off_t length) { return posix_fallocate(fd, from, length); }

void *mmap(void *address, size_t length, int protection, int flags, int fd, off_t at) {
    if (id_of(fd) && (flags & MAP_SHARED) && (protection & PROT_WRITE)) {
        pthread_mutex_lock(&lock);
        put_file(R_MAPPED, fd, at, NULL, 0); // what is written there is not seen: the replayer allows it for -shm
        pthread_mutex_unlock(&lock);
    }
    return (void *) syscall(SYS_mmap, address, length, protection, flags, fd, at);
}
void *mmap64(void *address, size_t length, int protection, int flags, int fd, off_t at) { return mmap(address, length, protection, flags, fd, at); }

// ---- syncs

/** SQLite's index as it is now: the product looks at it after a crash. It changes after the sync, never before. */
static void note_index(void) {
    char bytes[INDEX_BYTES];
    int fd = recording() && *index_path ? syscall(SYS_openat, AT_FDCWD, index_path, O_RDONLY | O_CLOEXEC, 0) : -1;
    if (fd >= 0) {
        if (syscall(SYS_pread64, fd, bytes, sizeof bytes, (off_t) 0) == sizeof bytes) {
            put_bytes(R_INDEX, 0, 0, bytes, sizeof bytes);
        }
        syscall(SYS_close, fd);
    }
}

static void sync_ended(int type, int fd, uint64_t number) {
    pthread_mutex_lock(&lock);
    put_file(type, fd, number, NULL, 0);
    pthread_mutex_unlock(&lock);
}

static int sync_it(int fd, long call) {
    if (!id_of(fd)) {
        return syscall(call, fd);
    }
    count(SYNCS);
    if (control && control[SYNC_DELAY_US] > 0) {
        struct timespec t = {control[SYNC_DELAY_US] / 1000000, control[SYNC_DELAY_US] % 1000000 * 1000};
        while (nanosleep(&t, &t) && errno == EINTR) {
        }
    }
    int error = fault(OP_SYNC, fds[fd].kind);
    if (error) {
        sync_ended(R_SYNC_FAILED, fd, 0);
        return failed(error);
    }
    if (control && control[LIE]) {
        return 0; // as a disk does that says yes and keeps it in its cache
    }
    pthread_mutex_lock(&lock);
    uint64_t number = ++syncs;
    if (fds[fd].kind == KIND_WAL) {
        note_index();
    }
    put_file(R_SYNC_BEGIN, fd, number, NULL, 0);
    pthread_mutex_unlock(&lock);
    int result = syscall(call, fd);
    int keep = errno;
    sync_ended(result ? R_SYNC_FAILED : R_SYNC_END, fd, number);
    errno = keep;
    return result;
}

int fsync(int fd) { return sync_it(fd, SYS_fsync); }
int fdatasync(int fd) { return sync_it(fd, SYS_fdatasync); }

// ---- the wall clock

static void shift(struct timespec *t, int64_t by) {
    t->tv_sec += by / 1000000000;
    t->tv_nsec += by % 1000000000;
    if (t->tv_nsec >= 1000000000) {
        t->tv_sec++;
        t->tv_nsec -= 1000000000;
    } else if (t->tv_nsec < 0) {
        t->tv_sec--;
        t->tv_nsec += 1000000000;
    }
}

static int64_t offset(void) { return control ? control[CLOCK_NS] : 0; }

int clock_gettime(clockid_t clock, struct timespec *t) {
    int result = real_clock ? real_clock(clock, t) : syscall(SYS_clock_gettime, clock, t);
    if (!result && offset() && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        shift(t, offset());
    }
    return result;
}

int gettimeofday(struct timeval *restrict t, void *restrict zone) {
    struct timespec s;
    (void) zone;
    clock_gettime(CLOCK_REALTIME, &s);
    t->tv_sec = s.tv_sec;
    t->tv_usec = s.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *into) {
    struct timespec s;
    clock_gettime(CLOCK_REALTIME, &s);
    if (into) {
        *into = s.tv_sec;
    }
    return s.tv_sec;
}

static double distance(const struct timespec *a, const struct timespec *b) {
    double d = (double) a->tv_sec - (double) b->tv_sec;
    return d < 0 ? -d : d;
}

// The kernel's clock is not shifted: a wait until a shifted moment must be shifted back. Which clock a condition waits by
// cannot be asked; the moment is nearer to what that clock says.
int pthread_cond_timedwait(pthread_cond_t *restrict condition, pthread_mutex_t *restrict mutex, const struct timespec *restrict until) {
    if (offset()) {
        struct timespec wall, steady, t = *until;
        clock_gettime(CLOCK_REALTIME, &wall);
        now(CLOCK_MONOTONIC, &steady);
        if (distance(until, &wall) < distance(until, &steady)) {
            shift(&t, -offset());
            return real_timed_wait(condition, mutex, &t);
        }
    }
    return real_timed_wait(condition, mutex, until);
}
