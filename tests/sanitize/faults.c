/* Failing system calls: a library for LD_PRELOAD that lets the calls of chosen threads fail as rules say.

   tests/sanitize/faults.py compiles it and says what each function does.  What fails keeps the kernel's promises: a call
   that "would block", or that takes less than it was offered, is followed by an edge of the descriptor's epoll set.

   Memory fails in native modules of the relay alone, which call other allocators than the rest of the process once they are
   hooked; these also know which blocks they have not freed yet.  */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <poll.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define SHORT (-1)   /* a way to fail: less than was asked for */
#define WAYS 8
#define DESCRIPTORS 65536

#define CALLS(of) \
    of(recvmmsg) of(sendmmsg) of(recv) of(send) of(recvfrom) of(sendto) of(recvmsg) of(sendmsg) of(accept4) \
    of(connect) of(socket) of(bind) of(setsockopt) of(getsockopt) of(getsockname) of(shutdown) of(splice) of(pipe2) \
    of(fcntl) of(ioctl) of(epoll_ctl) of(epoll_wait) of(memory)
#define NUMBER(name) CALL_##name,
enum { CALLS(NUMBER) COUNT };
#define NAME(name) #name,
static const char *const names[] = {CALLS(NAME)};

struct rule {
    int way;
    uint32_t chance;  /* of 2^32 */
    long nth;         /* counts down; at 1 the call fails */
};

static struct {
    struct rule rules[WAYS];
    int count;
    volatile long seen, failed;
} calls[COUNT];

static volatile long datagrams;
/* The set that has a descriptor, and what it waits for there. */
static struct { int epoll; struct epoll_event event; } watched[DESCRIPTORS];

static __thread int subject __attribute__((tls_model("initial-exec")));
static uint64_t state = 1;

static uint32_t rnd(void)
{
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return state >> 32;
}

/* Returns 0, or the way in which this call fails. */
static int fails(int call)
{
    if (!subject)
        return 0;
    calls[call].seen++;
    for (int i = 0; i < calls[call].count; i++) {
        struct rule *rule = &calls[call].rules[i];
        if ((rule->nth > 0 && --rule->nth == 0) || (rule->chance && rnd() < rule->chance)) {
            calls[call].failed++;
            return rule->way;
        }
    }
    return 0;
}

/* An edge, as if the descriptor had become ready after the call that failed. */
static void edge(int fd)
{
    static int (*real)(int, int, int, struct epoll_event *);
    int before = errno;
    if (!real)
        real = dlsym(RTLD_NEXT, "epoll_ctl");
    if (fd >= 0 && fd < DESCRIPTORS && watched[fd].event.events)
        real(watched[fd].epoll, EPOLL_CTL_MOD, fd, &watched[fd].event);
    errno = before;
}

static int fail(int fd, int way)
{
    if (way == EAGAIN)
        edge(fd);
    errno = way;
    return -1;
}

static int is_stream(int fd)
{
    static int (*real)(int, int, int, void *, socklen_t *);
    int type = 0;
    socklen_t size = sizeof type;
    if (!real)
        real = dlsym(RTLD_NEXT, "getsockopt");
    return real(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_STREAM;
}

/* Behind a FIN nothing comes any more, so a read takes all that it has room for. */
static int may_be_short(int fd)
{
    struct pollfd one = {fd, POLLRDHUP, 0};
    int before = errno;
    int ended = poll(&one, 1, 0) > 0;
    errno = before;
    return is_stream(fd) && !ended;
}

static size_t less(size_t size)
{
    return size > 1 ? 1 + rnd() % (size - 1) : size;
}

/* Shortens a vector to fewer octets in all; `room` has as many places. */
static size_t fewer(const struct iovec *from, size_t count, struct iovec *room)
{
    size_t total = 0, used = 0;
    for (size_t i = 0; i < count; i++)
        total += from[i].iov_len;
    total = less(total);
    for (; used < count && total; used++) {
        room[used] = from[used];
        if (room[used].iov_len > total)
            room[used].iov_len = total;
        total -= room[used].iov_len;
    }
    return used;
}

#define REAL(name) \
    static __typeof__(name) *real; \
    if (!real) \
        real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)
#define ERROR_ONLY(name, fd) \
    REAL(name); \
    int way = fails(CALL_##name); \
    if (way > 0) \
        return fail(fd, way)

EXPORT int recvmmsg(int fd, struct mmsghdr *messages, unsigned int count, int flags, struct timespec *timeout)
{
    ERROR_ONLY(recvmmsg, fd);
    int got = real(fd, messages, way == SHORT ? less(count) : count, flags, timeout);
    if (way == SHORT)
        edge(fd);
    if (subject && got > 0)
        datagrams += got;
    return got;
}

EXPORT int sendmmsg(int fd, struct mmsghdr *messages, unsigned int count, int flags)
{
    ERROR_ONLY(sendmmsg, fd);
    return real(fd, messages, way == SHORT ? less(count) : count, flags);
}

static ssize_t received(int fd, ssize_t size)
{
    if (subject && size >= 0 && !is_stream(fd))
        datagrams++;
    return size;
}

#define SHORTER(fd, size) \
    if (way == SHORT && is_stream(fd)) { \
        size = less(size); \
        edge(fd); \
    }

EXPORT ssize_t recv(int fd, void *buffer, size_t size, int flags)
{
    ERROR_ONLY(recv, fd);
    if (way == SHORT && may_be_short(fd)) {
        size = less(size);
        edge(fd);
    }
    return received(fd, real(fd, buffer, size, flags));
}

EXPORT ssize_t send(int fd, const void *buffer, size_t size, int flags)
{
    ERROR_ONLY(send, fd);
    SHORTER(fd, size)
    return real(fd, buffer, size, flags);
}

EXPORT ssize_t recvfrom(int fd, void *buffer, size_t size, int flags, struct sockaddr *from, socklen_t *length)
{
    ERROR_ONLY(recvfrom, fd);
    SHORTER(fd, size)
    return received(fd, real(fd, buffer, size, flags, from, length));
}

EXPORT ssize_t sendto(int fd, const void *buffer, size_t size, int flags, const struct sockaddr *to, socklen_t length)
{
    ERROR_ONLY(sendto, fd);
    SHORTER(fd, size)
    return real(fd, buffer, size, flags, to, length);
}

EXPORT ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
    ERROR_ONLY(recvmsg, fd);
    if (way == SHORT && is_stream(fd)) {
        struct iovec room[message->msg_iovlen + 1], *before = message->msg_iov;
        size_t count = message->msg_iovlen;
        message->msg_iovlen = fewer(before, count, room);
        message->msg_iov = room;
        ssize_t size = real(fd, message, flags);
        message->msg_iov = before;
        message->msg_iovlen = count;
        edge(fd);
        return size;
    }
    return received(fd, real(fd, message, flags));
}

EXPORT ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    ERROR_ONLY(sendmsg, fd);
    if (way == SHORT && is_stream(fd)) {
        struct iovec room[message->msg_iovlen + 1];
        struct msghdr part = *message;
        part.msg_iovlen = fewer(message->msg_iov, message->msg_iovlen, room);
        part.msg_iov = room;
        edge(fd);
        return real(fd, &part, flags);
    }
    return real(fd, message, flags);
}

EXPORT int accept4(int fd, struct sockaddr *address, socklen_t *size, int flags)
{
    ERROR_ONLY(accept4, fd);
    return real(fd, address, size, flags);
}

EXPORT int connect(int fd, const struct sockaddr *address, socklen_t size)
{
    ERROR_ONLY(connect, -1);
    return real(fd, address, size);
}

EXPORT int socket(int family, int type, int protocol)
{
    ERROR_ONLY(socket, -1);
    return real(family, type, protocol);
}

EXPORT int bind(int fd, const struct sockaddr *address, socklen_t size)
{
    ERROR_ONLY(bind, -1);
    return real(fd, address, size);
}

EXPORT int setsockopt(int fd, int level, int option, const void *value, socklen_t size)
{
    ERROR_ONLY(setsockopt, -1);
    return real(fd, level, option, value, size);
}

EXPORT int getsockopt(int fd, int level, int option, void *value, socklen_t *size)
{
    ERROR_ONLY(getsockopt, -1);
    return real(fd, level, option, value, size);
}

EXPORT int getsockname(int fd, struct sockaddr *address, socklen_t *size)
{
    ERROR_ONLY(getsockname, -1);
    return real(fd, address, size);
}

EXPORT int shutdown(int fd, int how)
{
    ERROR_ONLY(shutdown, -1);
    return real(fd, how);
}

EXPORT ssize_t splice(int in, off64_t *from, int out, off64_t *to, size_t size, unsigned int flags)
{
    REAL(splice);
    int way = fails(CALL_splice);
    if (way > 0) {
        fail(in, way);
        return fail(out, way);
    }
    if (way == SHORT) {
        edge(in);
        edge(out);
        size = less(size);
    }
    return real(in, from, out, to, size, flags);
}

EXPORT int pipe2(int ends[2], int flags)
{
    ERROR_ONLY(pipe2, -1);
    return real(ends, flags);
}

static int fcntl_(const char *name, int fd, int command, long argument)
{
    static int (*real)(int, int, long), (*real64)(int, int, long);
    if (!real)
        real = (int (*)(int, int, long))dlsym(RTLD_NEXT, "fcntl"), real64 = (int (*)(int, int, long))dlsym(RTLD_NEXT, "fcntl64");
    int way = fails(CALL_fcntl);
    if (way > 0)
        return fail(-1, way);
    return (name && real64 ? real64 : real)(fd, command, argument);
}

#define ONE_MORE(argument, last) \
    va_list rest; \
    va_start(rest, last); \
    long argument = va_arg(rest, long); \
    va_end(rest)

EXPORT int fcntl(int fd, int command, ...)
{
    ONE_MORE(argument, command);
    return fcntl_(NULL, fd, command, argument);
}

EXPORT int fcntl64(int fd, int command, ...)
{
    ONE_MORE(argument, command);
    return fcntl_("64", fd, command, argument);
}

EXPORT int ioctl(int fd, unsigned long request, ...)
{
    static int (*real)(int, unsigned long, long);
    ONE_MORE(argument, request);
    if (!real)
        real = (int (*)(int, unsigned long, long))dlsym(RTLD_NEXT, "ioctl");
    int way = request == FIONBIO ? 0 : fails(CALL_ioctl); /* which sets a flag, and cannot fail */
    return way > 0 ? fail(-1, way) : real(fd, request, argument);
}

EXPORT int epoll_ctl(int epoll, int action, int fd, struct epoll_event *event)
{
    /* An ADD may fail; that a DEL or a MOD fails for lack of something has not been seen. */
    static __typeof__(epoll_ctl) *real;
    if (!real)
        real = (__typeof__(epoll_ctl) *)dlsym(RTLD_NEXT, "epoll_ctl");
    int way = action == EPOLL_CTL_ADD ? fails(CALL_epoll_ctl) : 0;
    if (way > 0)
        return fail(-1, way);
    int done = real(epoll, action, fd, event);
    if (done == 0 && fd >= 0 && fd < DESCRIPTORS) {
        watched[fd].epoll = epoll;
        watched[fd].event.events = 0;
        if (action != EPOLL_CTL_DEL)
            watched[fd].event = *event;
    }
    return done;
}

EXPORT int epoll_wait(int epoll, struct epoll_event *events, int most, int timeout)
{
    ERROR_ONLY(epoll_wait, -1);
    return real(epoll, events, most, timeout);
}

/* -- memory: calls of native modules alone, whose tables of addresses are changed */

static long live; /* blocks that native modules have allocated and not freed */

static void *born(void *block)
{
    live += block != NULL;
    return block;
}

static int no_memory(void)
{
    return calls[CALL_memory].count && fails(CALL_memory);
}

#define ALLOCATOR(name, malloc_, calloc_, realloc_, free_) \
    static void *(*real_##malloc_)(size_t), *(*real_##calloc_)(size_t, size_t), *(*real_##realloc_)(void *, size_t); \
    static void (*real_##free_)(void *); \
    static void *our_##malloc_(size_t size) { return no_memory() ? NULL : born(real_##malloc_(size)); } \
    static void *our_##calloc_(size_t count, size_t size) \
    { \
        return no_memory() ? NULL : born(real_##calloc_(count, size)); \
    } \
    static void *our_##realloc_(void *block, size_t size) \
    { \
        return no_memory() ? NULL : block ? real_##realloc_(block, size) : born(real_##realloc_(block, size)); \
    } \
    static void our_##free_(void *block) \
    { \
        live -= block != NULL; \
        real_##free_(block); \
    }
ALLOCATOR(libc, malloc, calloc, realloc, free)
ALLOCATOR(mem, PyMem_Malloc, PyMem_Calloc, PyMem_Realloc, PyMem_Free)
ALLOCATOR(raw, PyMem_RawMalloc, PyMem_RawCalloc, PyMem_RawRealloc, PyMem_RawFree)
ALLOCATOR(object, PyObject_Malloc, PyObject_Calloc, PyObject_Realloc, PyObject_Free)

#define HOOK(name) {#name, (void *)our_##name, (void **)&real_##name}
static const struct { const char *name; void *ours; void **real; } hooks[] = {
    HOOK(malloc), HOOK(calloc), HOOK(realloc), HOOK(free),
    HOOK(PyMem_Malloc), HOOK(PyMem_Calloc), HOOK(PyMem_Realloc), HOOK(PyMem_Free),
    HOOK(PyMem_RawMalloc), HOOK(PyMem_RawCalloc), HOOK(PyMem_RawRealloc), HOOK(PyMem_RawFree),
    HOOK(PyObject_Malloc), HOOK(PyObject_Calloc), HOOK(PyObject_Realloc), HOOK(PyObject_Free),
};

static void hook(ElfW(Addr) base, const ElfW(Rela) *entry, size_t size, const ElfW(Sym) *symbols, const char *strings)
{
    long page = sysconf(_SC_PAGESIZE);
    for (; size >= sizeof *entry; size -= sizeof *entry, entry++) {
        const char *name = strings + symbols[ELF64_R_SYM(entry->r_info)].st_name;
        void **slot = (void **)(base + entry->r_offset);
        for (size_t i = 0; ELF64_R_SYM(entry->r_info) && i < sizeof hooks / sizeof *hooks; i++)
            if (!strcmp(name, hooks[i].name) && *hooks[i].real) {
                mprotect((void *)((uintptr_t)slot & -page), page, PROT_READ | PROT_WRITE);
                *slot = hooks[i].ours;
            }
    }
}

/* Each module of the relay has its own table of the addresses of what it calls. */
static int hook_module(struct dl_phdr_info *info, size_t unused, void *count)
{
    const ElfW(Dyn) *entry = NULL;
    const ElfW(Rela) *direct = NULL, *lazy = NULL;
    const ElfW(Sym) *symbols = NULL;
    const char *strings = NULL;
    size_t direct_size = 0, lazy_size = 0;
    (void)unused;
    if (!strstr(info->dlpi_name, "/proxy/"))
        return 0;
    for (int i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_DYNAMIC)
            entry = (const ElfW(Dyn) *)(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr);
    for (; entry && entry->d_tag != DT_NULL; entry++)
        switch (entry->d_tag) {
        case DT_RELA: direct = (const void *)entry->d_un.d_ptr; break;
        case DT_RELASZ: direct_size = entry->d_un.d_val; break;
        case DT_JMPREL: lazy = (const void *)entry->d_un.d_ptr; break;
        case DT_PLTRELSZ: lazy_size = entry->d_un.d_val; break;
        case DT_SYMTAB: symbols = (const void *)entry->d_un.d_ptr; break;
        case DT_STRTAB: strings = (const void *)entry->d_un.d_ptr; break;
        }
    if (!symbols || !strings)
        return 0;
    if (direct)
        hook(info->dlpi_addr, direct, direct_size, symbols, strings);
    if (lazy)
        hook(info->dlpi_addr, lazy, lazy_size, symbols, strings);
    ++*(int *)count;
    return 0;
}

/* -- control: faults.py says what these do */

EXPORT int faults_hook(void)
{
    int count = 0;
    for (size_t i = 0; i < sizeof hooks / sizeof *hooks; i++)
        if (!*hooks[i].real)
            *hooks[i].real = dlsym(RTLD_DEFAULT, hooks[i].name);
    dl_iterate_phdr(hook_module, &count);
    return count;
}

EXPORT long faults_live(void)
{
    return live;
}

EXPORT void faults_here(int on)
{
    subject = on;
}

EXPORT int faults_number(const char *name)
{
    for (int i = 0; i < COUNT; i++)
        if (!strcmp(names[i], name))
            return i;
    return -1;
}

EXPORT const char *faults_name(int number)
{
    return number >= 0 && number < COUNT ? names[number] : NULL;
}

EXPORT int faults_rule(int call, int way, double chance, long nth)
{
    if (call < 0 || call >= COUNT || calls[call].count == WAYS)
        return -1;
    uint32_t of = chance >= 1.0 ? UINT32_MAX : (uint32_t)(chance * 4294967296.0);
    calls[call].rules[calls[call].count] = (struct rule){way, of, nth};
    calls[call].count++;
    return 0;
}

EXPORT void faults_clear(void)
{
    for (int i = 0; i < COUNT; i++)
        calls[i].count = 0;
}

EXPORT void faults_seed(uint64_t seed)
{
    state = seed * 2654435761u + 88172645463325252u;
}

EXPORT long faults_seen(int call)
{
    return calls[call].seen;
}

EXPORT long faults_failed(int call)
{
    return calls[call].failed;
}

EXPORT volatile long *faults_datagrams(void)
{
    return &datagrams;
}
