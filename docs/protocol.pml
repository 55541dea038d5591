/* The waits of the protocol, for the model checker SPIN (https://spinroot.com).
 *
 * Two device threads post a request each into a ring of one entry; two host workers take, answer
 * and sleep. Timeouts are left out on purpose: with them every lost wake-up would only be a delay
 * (clause D3), without them it is a deadlock, which SPIN finds. What else it checks are the
 * assertions: no entry is overwritten before it was copied, every request is answered once, and no
 * answer is read that was not given.
 *
 * SPIN's memory is sequentially consistent. What weaker machines do is written out: where no fence
 * stands between a store and a later load, or no release before a store, the model may swap the two.
 * Each macro below leaves one such thing out; scripts/check-model.sh runs the model without any, which
 * must hold, and with each, which must fail:
 *
 *   NO_FENCE_D1  the device's fence between publishing and its look at `parked`
 *   NO_FENCE_D2  the host's fence between raising `parked` and its last look at the ring
 *   LATE_READ_D2 the host reads `doorbell` after raising `parked` instead of before its look
 *   NO_FENCE_D4H the host's fence between answering and its look at the device's `parked`
 *   NO_FENCE_D4D the device's fence between raising its `parked` and its last look at its cell
 *   NO_ROOM_S2   the device does not wait for room
 *   EARLY_S3     the sequence word is published before the request's body
 *   EARLY_S5     `head` is advanced before the request was copied
 */

#define ENTRIES  1
#define DEVICES  2
#define WORKERS  2
#define REQUESTS 1
#define NOBODY   255

/* The region. Sequence numbers are far from wrapping. */
byte seq[ENTRIES];          /* device: ticket + 1 */
byte from[ENTRIES];         /* device: the body, here only who asks */
byte head;                  /* host */
byte cell[DEVICES];         /* host: the tag of the last answer */
byte parked, bell;          /* host */
byte dev_parked, doorbell;  /* device */

/* Memory of one side. */
byte tail;                  /* device: the next ticket */
byte next;                  /* host: the next ticket to take */
bool consumer;              /* host: the lock on it */
byte given[DEVICES];        /* host: answers to each, for the assertions */
bool uncopied[ENTRIES];     /* whether it holds a request not yet copied, for the assertions */

/* Who sleeps on which word, as the kernel knows it. */
bool host_asleep[WORKERS];
bool dev_asleep[DEVICES];

inline wake_one_worker() {
    atomic {
        if
        :: host_asleep[0] -> host_asleep[0] = false
        :: host_asleep[1] -> host_asleep[1] = false
        :: else -> skip
        fi
    }
}

inline wake_all_devices() {
    atomic { dev_asleep[0] = false; dev_asleep[1] = false }
}

/* S3 with what EARLY_S3 swaps. */
inline publish(entry, ticket) {
#ifdef EARLY_S3
    if
    :: seq[entry] = ticket + 1; from[entry] = me
    :: from[entry] = me; seq[entry] = ticket + 1
    fi
#else
    from[entry] = me;
    seq[entry] = ticket + 1
#endif
}

proctype Device(byte me) {
    byte n, ticket, entry, seen, value;
    do
    :: n < REQUESTS ->
        /* S1 */
        atomic { ticket = tail; tail++ };
        entry = ticket % ENTRIES;
        /* S2 */
#ifndef NO_ROOM_S2
        (ticket - head < ENTRIES);
#endif
        assert(!uncopied[entry]);
        uncopied[entry] = true;
        /* S3, then D1 */
#ifdef NO_FENCE_D1
        if
        :: publish(entry, ticket); seen = parked
        :: seen = parked; publish(entry, ticket)
        fi;
#else
        publish(entry, ticket);
        seen = parked;
#endif
        if
        :: seen > 0 -> doorbell = ticket + 1; wake_one_worker()
        :: else -> skip
        fi;
        /* C3, asleep as D4 says */
        do
        :: cell[me] == n + 1 -> break
        :: else ->
            value = bell;
#ifdef NO_FENCE_D4D
            if
            :: atomic { dev_parked++ }; seen = cell[me]
            :: seen = cell[me]; atomic { dev_parked++ }
            fi;
#else
            atomic { dev_parked++ };
            seen = cell[me];
#endif
            if
            :: seen == n + 1 -> skip
            :: else ->
                atomic {
                    if
                    :: bell == value -> dev_asleep[me] = true
                    :: else -> skip
                    fi
                };
                (!dev_asleep[me])
            fi;
            atomic { dev_parked-- }
        od;
        assert(given[me] == n + 1);
        n++
    :: else -> break
    od
}

proctype Worker(byte me) {
    byte asker, value, seen;
    bool ready;
end:
    do
    :: true ->
        /* S4, S5: one request at a time, under the lock. */
        asker = NOBODY;
        if
        :: atomic { !consumer -> consumer = true };
            if
            :: seq[next % ENTRIES] == next + 1 ->
#ifdef EARLY_S5
                head = next + 1;
                asker = from[next % ENTRIES];
                uncopied[next % ENTRIES] = false;
#else
                asker = from[next % ENTRIES];
                uncopied[next % ENTRIES] = false;
                head = next + 1;
#endif
                next++
            :: else -> skip
            fi;
            consumer = false
        fi;
        if
        :: asker != NOBODY ->
            /* C2: once, and to somebody who waits for it. */
            assert(cell[asker] == given[asker]);
            given[asker]++;
            /* D4 */
#ifdef NO_FENCE_D4H
            if
            :: cell[asker] = given[asker]; seen = dev_parked
            :: seen = dev_parked; cell[asker] = given[asker]
            fi;
#else
            cell[asker] = given[asker];
            seen = dev_parked;
#endif
            if
            :: seen > 0 -> atomic { bell++ }; wake_all_devices()
            :: else -> skip
            fi
        :: else ->
            /* D2 */
#ifdef LATE_READ_D2
            atomic { parked++ };
            ready = (seq[next % ENTRIES] == next + 1);
            value = doorbell;
#else
            value = doorbell;
#ifdef NO_FENCE_D2
            if
            :: atomic { parked++ }; ready = (seq[next % ENTRIES] == next + 1)
            :: ready = (seq[next % ENTRIES] == next + 1); atomic { parked++ }
            fi;
#else
            atomic { parked++ };
            ready = (seq[next % ENTRIES] == next + 1);
#endif
#endif
            if
            :: ready -> skip
            :: else ->
                atomic {
                    if
                    :: doorbell == value -> host_asleep[me] = true
                    :: else -> skip
                    fi
                };
end_asleep:     (!host_asleep[me])
            fi;
            atomic { parked-- }
        fi
    od
}

init {
    atomic {
        run Device(0); run Device(1);
        run Worker(0); run Worker(1)
    }
}
