// What of a directory is on the disk, for tests of what a power cut leaves: preloaded into a broker, it keeps a second
// copy of all files below POWER_ROOT that changes only when something is synchronised. The C library's calls go on to the
// kernel as always, so the broker itself sees a file system like any other.
//
//   POWER_ROOT     the directory that is watched
//   POWER_OBJECTS  what is on the disk of each file, by inode number; files that are there at the start must be here
//   POWER_NAMES    the names that are on the disk: hard links to the objects
//   POWER_CONTROL  32 numbers of 32 bits, which the test and this share; see `enum control`
//
// As POSIX promises and no more: a file's content is on the disk after fsync or fdatasync of the file, a name after one of
// its directory. The index of SQLite's log (-shm) is memory that it makes anew, and is left alone.
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

// power.py has the same numbers.
enum control {
    FAIL_WRITE,     // error number that every call gets, or 0
    FAIL_SYNC,
    FAIL_READ,
    FAIL_OPEN,
    IGNORES_SYNC,   // pretends only
    SYNC_DELAY,     // milliseconds
    DIE_AT_CALL,    // the process is killed when so many more calls have come
    DIE_AT_DATABASE_WRITE,  // …so many writes to what is no log: checkpoints
    WRITES,         // counted from here on
    LOG_SYNCS,
    OTHER_SYNCS,
    DIRECTORY_SYNCS,
    FAULTS,
};

enum { SECTOR = 512, FILES = 256, DESCRIPTORS = 1 << 16 };

struct file {
    ino_t inode;
    int object;  // -1 for a directory
    bool is_log;
    char *dirty; // one byte a sector
    size_t sectors;
    char path[PATH_MAX];
};

static struct file files[FILES];
static int file_count;
static struct file *by_descriptor[DESCRIPTORS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const char *root, *objects, *names;
static volatile int *control;

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static void fail(const char *what) {
    dprintf(STDERR_FILENO, "power: %s: %s\n", what, strerror(errno));
    abort();
}

__attribute__((constructor)) static void begin(void) {
    int (*next_open)(const char *, int, ...) = NEXT(open);
    root = getenv("POWER_ROOT");
    objects = getenv("POWER_OBJECTS");
    names = getenv("POWER_NAMES");
    int descriptor = next_open(getenv("POWER_CONTROL"), O_RDWR | O_CLOEXEC);
    if (!root || !objects || !names || descriptor < 0) fail("cannot begin");
    control = mmap(NULL, 32 * sizeof(int), PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    if (control == MAP_FAILED) fail("cannot share its control");
    NEXT(close)(descriptor);
}

// The rest of the path if it is the root or below; NULL for all others and for what is left alone.
static const char *within(const char *path) {
    size_t length = root ? strlen(root) : 0;
    if (!path || !length || strncmp(path, root, length) != 0) return NULL;
    if (path[length] != 0 && path[length] != '/') return NULL;
    size_t all = strlen(path);
    return all > 4 && strcmp(path + all - 4, "-shm") == 0 ? NULL : path + length;
}

static void join(char *out, const char *first, const char *second) {
    if (snprintf(out, PATH_MAX, "%s%s", first, second) >= PATH_MAX) fail("a path is too long");
}

static void child(char *out, const char *directory, const char *name) {
    if (snprintf(out, PATH_MAX, "%s/%s", directory, name) >= PATH_MAX) fail("a path is too long");
}

static void object_path(char *out, ino_t inode) {
    snprintf(out, PATH_MAX, "%s/%lu", objects, (unsigned long)inode);
}

static void count_down(enum control which) {
    if (control[which] > 0 && __sync_sub_and_fetch(&control[which], 1) == 0) kill(getpid(), SIGKILL);
}

// Whether the call is to fail; errno is set.
static bool fails(enum control which) {
    if (which != FAIL_READ) count_down(DIE_AT_CALL);
    int error = control[which];
    if (!error) return false;
    __sync_add_and_fetch(&control[FAULTS], 1);
    errno = error;
    return true;
}

static struct file *tracked(int descriptor) {
    return descriptor >= 0 && descriptor < DESCRIPTORS ? by_descriptor[descriptor] : NULL;
}

static void mark(struct file *file, off_t from, off_t to) {
    if (from >= to) return;
    size_t first = from / SECTOR, end = (to + SECTOR - 1) / SECTOR;
    if (end > file->sectors) {
        size_t sectors = end * 2;
        file->dirty = realloc(file->dirty, sectors);
        if (!file->dirty) fail("no memory");
        memset(file->dirty + file->sectors, 0, sectors - file->sectors);
        file->sectors = sectors;
    }
    memset(file->dirty + first, 1, end - first);
}

static int track(int descriptor, const char *path) {
    struct stat status;
    if (descriptor < 0 || !within(path)) return descriptor;
    if (descriptor >= DESCRIPTORS || fstat(descriptor, &status) != 0) fail("cannot watch a file");
    pthread_mutex_lock(&lock);
    struct file *file = NULL;
    for (int i = 0; i < file_count; i++)
        if (files[i].inode == status.st_ino) file = &files[i];
    if (!file) {
        if (file_count == FILES) fail("too many files");
        file = &files[file_count++];
        file->inode = status.st_ino;
        file->object = -1;
        char link[64];
        snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
        ssize_t length = readlink(link, file->path, sizeof file->path - 1);
        if (length < 0) fail("cannot name a file");
        file->path[length] = 0;
        file->is_log = length > 4 && strcmp(file->path + length - 4, "-wal") == 0;
        if (!S_ISDIR(status.st_mode)) {
            char object[PATH_MAX];
            object_path(object, status.st_ino);
            file->object = NEXT(open)(object, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
            if (file->object < 0) fail("cannot make an object");
        }
    }
    by_descriptor[descriptor] = file;
    pthread_mutex_unlock(&lock);
    return descriptor;
}

static void sync_content(struct file *file, int descriptor) {
    static char buffer[256 * SECTOR];
    for (size_t sector = 0; sector < file->sectors; sector++) {
        if (!file->dirty[sector]) continue;
        size_t end = sector;
        while (end < file->sectors && file->dirty[end] && end - sector < 256) file->dirty[end++] = 0;
        ssize_t count = NEXT(pread64)(descriptor, buffer, (end - sector) * SECTOR, sector * SECTOR);
        if (count < 0 || NEXT(pwrite64)(file->object, buffer, count, sector * SECTOR) != count) fail("cannot copy");
        sector = end - 1;
    }
    struct stat status;
    if (fstat(descriptor, &status) != 0 || NEXT(ftruncate64)(file->object, status.st_size) != 0) fail("cannot size");
}

// Makes a directory's names on the disk those that it has.
static void sync_names(const char *path) {
    char on_disk[PATH_MAX], live[PATH_MAX], name[PATH_MAX], object[PATH_MAX];
    struct stat status, known;
    join(on_disk, names, within(path));
    // Nobody can come to what is in a directory whose own name is not on the disk.
    if (lstat(on_disk, &status) != 0) return;
    DIR *directory = opendir(path);
    if (!directory) fail("cannot list a directory");
    for (struct dirent *entry; (entry = readdir(directory));) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        child(live, path, entry->d_name);
        child(name, on_disk, entry->d_name);
        if (!within(live) || lstat(live, &status) != 0) continue;
        if (S_ISDIR(status.st_mode)) {
            NEXT(mkdir)(name, 0700);
            continue;
        }
        object_path(object, status.st_ino);
        if (stat(object, &status) != 0) fail("a file came to be unseen");
        if (lstat(name, &known) == 0 && known.st_ino == status.st_ino) continue;
        NEXT(unlink)(name);
        if (link(object, name) != 0) fail("cannot link");
    }
    closedir(directory);
    if (!(directory = opendir(on_disk))) fail("cannot list the names of a directory");
    for (struct dirent *entry; (entry = readdir(directory));) {
        child(live, path, entry->d_name);
        child(name, on_disk, entry->d_name);
        if (lstat(live, &status) != 0) NEXT(unlink)(name);
    }
    closedir(directory);
}

static int synchronise(struct file *file, int descriptor) {
    if (control[SYNC_DELAY]) usleep(control[SYNC_DELAY] * 1000);
    enum control counter = file->object < 0 ? DIRECTORY_SYNCS : file->is_log ? LOG_SYNCS : OTHER_SYNCS;
    __sync_add_and_fetch(&control[counter], 1);
    if (fails(FAIL_SYNC)) {
        // The kernel takes what it could not write for written, and says so once only.
        if (file->sectors) memset(file->dirty, 0, file->sectors);
        return -1;
    }
    if (control[IGNORES_SYNC]) return 0;
    pthread_mutex_lock(&lock);
    if (file->object < 0) sync_names(file->path);
    else sync_content(file, descriptor);
    pthread_mutex_unlock(&lock);
    return 0;
}

// Before a write; false if it is to fail.
static bool note_write(struct file *file, off_t offset, size_t count) {
    if (fails(FAIL_WRITE)) return false;
    if (!file->is_log) count_down(DIE_AT_DATABASE_WRITE);
    __sync_add_and_fetch(&control[WRITES], 1);
    pthread_mutex_lock(&lock);
    mark(file, offset, offset + count);
    pthread_mutex_unlock(&lock);
    return true;
}

static void note_truncation(struct file *file, int descriptor, off_t size) {
    struct stat status;
    if (fstat(descriptor, &status) != 0) fail("cannot size");
    count_down(DIE_AT_CALL);
    pthread_mutex_lock(&lock);
    // What was there is zero if the file grows again.
    mark(file, size, status.st_size);
    pthread_mutex_unlock(&lock);
}

// The inode of a file that its last name is about to be taken from; 0 if it is none of ours.
static ino_t last_name_of(const char *path) {
    struct stat status;
    if (!within(path) || lstat(path, &status) != 0 || S_ISDIR(status.st_mode) || status.st_nlink > 1) return 0;
    return status.st_ino;
}

// What a removed file had is on the disk as long as its name is. Its inode number may come again.
static int forget(ino_t inode, int result) {
    char object[PATH_MAX];
    if (!inode || result != 0) return result;
    pthread_mutex_lock(&lock);
    object_path(object, inode);
    NEXT(unlink)(object);
    for (int i = 0; i < file_count; i++)
        if (files[i].inode == inode) files[i].inode = 0;
    pthread_mutex_unlock(&lock);
    return result;
}

#define OPEN(name, parameters, path, arguments)                                 \
    int name parameters {                                                       \
        mode_t mode = 0;                                                        \
        if (flags & (O_CREAT | __O_TMPFILE)) {                                  \
            va_list rest;                                                       \
            va_start(rest, flags);                                              \
            mode = va_arg(rest, mode_t);                                        \
            va_end(rest);                                                       \
        }                                                                       \
        if (within(path)) {                                                     \
            if (fails(FAIL_OPEN)) return -1;                                    \
            if (flags & O_TRUNC) {                                              \
                errno = ENOTSUP;                                                \
                fail("nothing here knows O_TRUNC");                             \
            }                                                                   \
        }                                                                       \
        return track(NEXT(name) arguments, path);                               \
    }

OPEN(open, (const char *path, int flags, ...), path, (path, flags, mode))
OPEN(open64, (const char *path, int flags, ...), path, (path, flags, mode))
OPEN(openat, (int at, const char *path, int flags, ...), path, (at, path, flags, mode))
OPEN(openat64, (int at, const char *path, int flags, ...), path, (at, path, flags, mode))

int close(int descriptor) {
    if (tracked(descriptor)) by_descriptor[descriptor] = NULL;
    return NEXT(close)(descriptor);
}

#define PWRITE(name, offset_type)                                               \
    ssize_t name(int descriptor, const void *bytes, size_t count, offset_type offset) { \
        struct file *file = tracked(descriptor);                                \
        if (file && !note_write(file, offset, count)) return -1;                \
        return NEXT(name)(descriptor, bytes, count, offset);                    \
    }

PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

ssize_t write(int descriptor, const void *bytes, size_t count) {
    static ssize_t (*next)(int, const void *, size_t);
    if (!next) next = NEXT(write);
    struct file *file = tracked(descriptor);
    if (file && !note_write(file, lseek(descriptor, 0, SEEK_CUR), count)) return -1;
    return next(descriptor, bytes, count);
}

ssize_t writev(int descriptor, const struct iovec *parts, int count) {
    static ssize_t (*next)(int, const struct iovec *, int);
    if (!next) next = NEXT(writev);
    struct file *file = tracked(descriptor);
    size_t bytes = 0;
    for (int i = 0; file && i < count; i++) bytes += parts[i].iov_len;
    if (file && !note_write(file, lseek(descriptor, 0, SEEK_CUR), bytes)) return -1;
    return next(descriptor, parts, count);
}

#define PREAD(name, offset_type)                                                \
    ssize_t name(int descriptor, void *bytes, size_t count, offset_type offset) { \
        if (tracked(descriptor) && fails(FAIL_READ)) return -1;                 \
        return NEXT(name)(descriptor, bytes, count, offset);                    \
    }

PREAD(pread, off_t)
PREAD(pread64, off64_t)

#define TRUNCATE(name, size_type)                                               \
    int name(int descriptor, size_type size) {                                  \
        struct file *file = tracked(descriptor);                                \
        if (file) note_truncation(file, descriptor, size);                      \
        return NEXT(name)(descriptor, size);                                    \
    }

TRUNCATE(ftruncate, off_t)
TRUNCATE(ftruncate64, off64_t)

#define SYNC(name)                                                              \
    int name(int descriptor) {                                                  \
        struct file *file = tracked(descriptor);                                \
        /* It is what the layer says that counts: the real disk is spared. */   \
        return file ? synchronise(file, descriptor) : NEXT(name)(descriptor);   \
    }

SYNC(fsync)
SYNC(fdatasync)

int unlink(const char *path) {
    ino_t inode = last_name_of(path);
    if (inode) count_down(DIE_AT_CALL);
    return forget(inode, NEXT(unlink)(path));
}

int rename(const char *from, const char *to) {
    ino_t inode = last_name_of(to);
    if (within(from)) count_down(DIE_AT_CALL);
    return forget(inode, NEXT(rename)(from, to));
}

// Ways around the layer that nothing takes today: who takes one is to be told, not to pass unseen.
#define UNKNOWN(name, parameters, arguments)                                    \
    int name parameters {                                                       \
        if (tracked(descriptor)) {                                              \
            errno = ENOTSUP;                                                    \
            fail(#name);                                                        \
        }                                                                       \
        return NEXT(name) arguments;                                            \
    }

UNKNOWN(fallocate, (int descriptor, int mode, off_t offset, off_t count), (descriptor, mode, offset, count))
UNKNOWN(posix_fallocate, (int descriptor, off_t offset, off_t count), (descriptor, offset, count))
UNKNOWN(posix_fallocate64, (int descriptor, off64_t offset, off64_t count), (descriptor, offset, count))
UNKNOWN(sync_file_range, (int descriptor, off64_t offset, off64_t count, unsigned flags),
        (descriptor, offset, count, flags))
