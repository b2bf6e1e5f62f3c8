/* The loop of `_link.py relay`, for machines with a compiler: the emulated link then takes little of
 * the processor that the programs under test need. Same arguments, same figures at the end:
 *
 *     _relay TUN_A TUN_B RATE_BIT_S DELAY_S LOSS QUEUE_S
 *
 * TUN_A and TUN_B are open file descriptors. Each packet leaves at the rate, behind those before
 * it, and arrives after the delay; a packet that would wait longer than the queue is dropped.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* One wake-up a tick, not one a packet: the machine under test has better to do. */
enum { ROOM = 1 << 16, LARGEST = 2048, AT_ONCE = 64, TICK_NS = 500000 };

struct packet { double due; int size; unsigned char data[LARGEST]; };

struct way {
    int in, out;
    double free_at; /* when the link has sent all that came before */
    long packets, bytes, lost, dropped;
    unsigned head, tail; /* of the packets under way */
    struct packet *under_way;
};

static volatile sig_atomic_t ended;
static double rate, delay_s, loss, queue_s;

static void end(int signum) { (void)signum; ended = 1; }

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void take(struct way *way) {
    static unsigned char data[LARGEST];
    for (int n = 0; n < AT_ONCE; n++) {
        ssize_t size = read(way->in, data, sizeof data);
        if (size <= 0) return;
        double at = now(), start = at > way->free_at ? at : way->free_at;
        if (loss > 0 && drand48() < loss) {
            way->lost++;
        } else if (start - at > queue_s || way->tail - way->head == ROOM) {
            way->dropped++;
        } else {
            struct packet *packet = &way->under_way[way->tail++ % ROOM];
            way->free_at = start + size * 8 / rate;
            packet->due = way->free_at + delay_s;
            packet->size = (int)size;
            memcpy(packet->data, data, (size_t)size);
        }
    }
}

/* Pass on what is due; whether there is more. */
static int give(struct way *way) {
    while (way->head != way->tail) {
        struct packet *packet = &way->under_way[way->head % ROOM];
        if (packet->due > now()) return 1;
        way->head++;
        way->packets++;
        way->bytes += packet->size;
        if (write(way->out, packet->data, (size_t)packet->size) < 0 && errno != EAGAIN)
            continue; /* the device is going away */
    }
    return 0;
}

static void tell(const char *name, struct way *way, const char *after) {
    printf("\"%s\": {\"packets\": %ld, \"bytes\": %ld, \"lost\": %ld, \"dropped\": %ld}%s", name,
           way->packets, way->bytes, way->lost, way->dropped, after);
}

int main(int argc, char **argv) {
    if (argc != 7) return 2;
    int a = atoi(argv[1]), b = atoi(argv[2]);
    rate = atof(argv[3]), delay_s = atof(argv[4]), loss = atof(argv[5]), queue_s = atof(argv[6]);
    struct way ways[2] = {{.in = a, .out = b}, {.in = b, .out = a}};
    for (int n = 0; n < 2; n++)
        if (!(ways[n].under_way = malloc(sizeof(struct packet) * ROOM))) return 1;
    signal(SIGTERM, end);
    srand48((long)getpid());
    puts("up");
    fflush(stdout);
    while (!ended) {
        int busy = give(&ways[0]) | give(&ways[1]);
        struct pollfd fds[2] = {{.fd = a, .events = POLLIN}, {.fd = b, .events = POLLIN}};
        if (busy) nanosleep(&(struct timespec){0, TICK_NS}, NULL);
        else poll(fds, 2, 200);
        for (int n = 0; n < 2; n++) take(&ways[n]);
    }
    putchar('{');
    tell("up", &ways[0], ", ");
    tell("down", &ways[1], "}\n");
    return 0;
}
