/* The waits of sockets and event queues, for the model checker SPIN (https://spinroot.com).
 *
 * One socket. A device thread sends through a ring of one byte that a host task empties; another waits for the
 * socket by an event queue and takes what a second host task puts into a ring of one byte, until that ends. A
 * request (`Wake`) always reaches the host here: docs/protocol.pml has the waits of requests. As there, nothing has
 * a timeout, so that a lost wake-up is a deadlock. The assertions: a byte is read only where one was put, all bytes
 * come before the end, and no more than one event of a socket is in a queue.
 *
 * SPIN's memory is sequentially consistent; where a fence or an order is left out, the model may swap what it keeps
 * apart. Each macro below leaves one out; scripts/check-model.sh runs the model without any, which must hold, and with
 * each, which must fail:
 *
 *   NO_FENCE_N5D the device's fence between its index of tx and its look at `tx_sleeps`
 *   NO_FENCE_N5H the host's fence between `tx_sleeps` and its last look at tx
 *   NO_FENCE_N5R the host's fence between `rx_sleeps` and its last look at rx
 *   NO_FENCE_N5T the device's fence between its index of rx and its look at `rx_sleeps`
 *   EARLY_N3     the device stores its index of tx before the byte
 *   LATE_TURN_N6 the device reads `tx_turn` after its look instead of before
 *   EARLY_TURN_N6 the host changes `tx_turn` before its index
 *   NO_FENCE_N7D the device's fence between its watch and its last look
 *   NO_FENCE_N7H the host's fence between a change and its look at the watch
 *   KEPT_WATCH_N7 the device waits again after an event that it found nothing for, without a new watch
 *   CROWDED_N7   the host appends an event though one of that socket has not been taken
 *   LATE_END_N12 the device looks whether rx has ended after its look at the bytes instead of before
 */

#define SEND 3
#define FILL 3

/* The socket's words. Indices are far from wrapping, and each ring has one byte: index - index is 0 or 1. */
byte tx_tail, rx_head, watch;                           /* device */
byte tx_head, tx_turn, rx_tail;                         /* host */
bool tx_sleeps = true, rx_sleeps, rx_ended;             /* host */
/* The queue's. */
byte events;                                            /* host: its tail */
byte taken;                                             /* device: its head */
/* What is in the rings: whether there is a byte, for the assertions. */
bool in_tx, in_rx;
/* The first direction is done with. */
bool sent_all;
/* Requests that the host has not looked at yet. */
bool wake_tx, wake_rx;

/* a, then b; in either order if the fence between them is left out. */
#define APART(a, b)   a; b
#define SWAPPED(a, b) if :: a; b :: b; a fi

#ifdef NO_FENCE_N5D
#define FENCE_N5D SWAPPED
#else
#define FENCE_N5D APART
#endif
#ifdef NO_FENCE_N5H
#define FENCE_N5H SWAPPED
#else
#define FENCE_N5H APART
#endif
#ifdef NO_FENCE_N5R
#define FENCE_N5R SWAPPED
#else
#define FENCE_N5R APART
#endif
#ifdef NO_FENCE_N5T
#define FENCE_N5T SWAPPED
#else
#define FENCE_N5T APART
#endif
#ifdef NO_FENCE_N7D
#define FENCE_N7D SWAPPED
#else
#define FENCE_N7D APART
#endif
#ifdef NO_FENCE_N7H
#define FENCE_N7H SWAPPED
#else
#define FENCE_N7H APART
#endif
proctype Sender() {
    byte turn;
    bool sleeps, stuck;
    do
    :: tx_tail < SEND ->
#ifdef LATE_TURN_N6
        stuck = tx_tail - tx_head == 1;
        turn = tx_turn;
#else
        turn = tx_turn;
        stuck = tx_tail - tx_head == 1;
#endif
        if
        :: stuck -> (tx_turn != turn)
        :: else ->
#ifdef EARLY_N3
            tx_tail++; in_tx = true;
            sleeps = tx_sleeps;
#else
            in_tx = true;
            FENCE_N5D(tx_tail++, sleeps = tx_sleeps);
#endif
            if
            :: sleeps -> wake_tx = true
            :: else -> skip
            fi
        fi
    :: else -> break
    od;
    /* All of it goes out. */
    (tx_head == SEND);
    sent_all = true
}

proctype Pusher() {
    bool there;
end_asleep:
    (wake_tx);
    wake_tx = false;
    do
    :: there = tx_tail != tx_head;
        if
        :: there -> skip
        :: else ->
            FENCE_N5H(tx_sleeps = true, there = tx_tail != tx_head);
            if
            :: there -> skip
            :: else -> goto end_asleep
            fi
        fi;
        tx_sleeps = false;
        assert(in_tx);
        in_tx = false;
#ifdef EARLY_TURN_N6
        tx_turn++;
        tx_head++
#else
        tx_head++;
        tx_turn++
#endif
    od
}

/* The host has changed something of rx, and then read `watch`. */
inline tell() {
    if
    :: word != answered ->
        answered = word;
        if
#ifndef CROWDED_N7
        :: events > taken -> skip
#endif
        :: else -> events++
        fi;
        assert(events - taken <= 1)
    :: else -> skip
    fi
}

proctype Filler() {
    byte word, answered, filled;
    bool stuck;
    do
    :: filled < FILL ->
        rx_sleeps = false;
        stuck = rx_tail - rx_head == 1;
        if
        :: stuck ->
            FENCE_N5R(rx_sleeps = true, stuck = rx_tail - rx_head == 1);
            if
            :: stuck -> (wake_rx); wake_rx = false
            :: else -> skip
            fi
        :: else ->
            in_rx = true;
            filled++;
            FENCE_N7H(rx_tail++, word = watch);
            tell()
        fi
    :: else -> break
    od;
    FENCE_N7H(rx_ended = true, word = watch);
    tell()
}

/* One look at rx, and one byte if there is one. */
inline look() {
#ifdef LATE_END_N12
    there = rx_tail != rx_head;
    ended = rx_ended;
#else
    ended = rx_ended;
    there = rx_tail != rx_head;
#endif
    skip
}

proctype Poller() {
    byte got;
    bool there, ended, sleeps, watched;
watches:
    watched = true;
    FENCE_N7D(watch++, look());
    do
    :: there ->
        assert(in_rx);
        in_rx = false;
        got++;
        FENCE_N5T(rx_head++, sleeps = rx_sleeps);
        if
        :: sleeps -> wake_rx = true
        :: else -> skip
        fi;
        /* Whoever has taken something watches again before the next wait. */
        watched = false;
        look()
    :: !there && ended -> break
    :: !there && !ended && !watched -> goto watches
    :: else ->
        /* Nothing since it was watched: the watch is not answered, or the event that is has not been taken. */
        (events != taken);
        taken++;
#ifndef KEPT_WATCH_N7
        watched = false;
#endif
        look()
    od;
    assert(got == FILL)
}

init {
    run Pusher();
    run Sender();
    /* The directions have nothing to do with each other: one after the other is all there is to see. */
    (sent_all);
    run Filler();
    run Poller()
}
