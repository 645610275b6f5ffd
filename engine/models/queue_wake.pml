/* Waking the consumers of a queue: objects/queue_wake.c, and what loop/waiter.c does with it.
 *
 * Producers put messages and wake; consumers file themselves, sleep, are woken, time out, and come
 * back or go elsewhere, in any order. With DEATHS one process is killed at any step, and is reaped.
 * When nothing moves any more, no consumer may sleep beside a message.
 *
 * Each of these definitions leaves a step out, and must be found to be wrong: NO_CLEAR_AWAKE,
 * NO_CLEAR_LEAVING, NO_CLEAR_FAILED, NO_REAPER (with DEATHS). There is no time here: a name is
 * believed or not at each look, whatever its age.
 */
#ifndef CONSUMERS
#define CONSUMERS 2
#endif
#ifndef PRODUCERS
#define PRODUCERS 1
#endif
#ifndef PUTS
#define PUTS 2
#endif
#ifndef ROUNDS
#define ROUNDS 2 /* waits of each consumer; after these it is elsewhere */
#endif

bit waiting[4]; /* the waiter set: of three consumers at most */
bit rung[4];    /* their bells */
bit everything[4];
bit asleep[4];
byte waking;    /* a consumer + 1; 0: none */
byte messages;
#ifdef DEATHS
bit has_died;
#define MAY_DIE :: atomic { !has_died -> has_died = 1; goto died }
#define POINT if :: skip MAY_DIE fi; /* between two steps */
#else
#define MAY_DIE
#define POINT
#endif

/* Wakes a consumer, unless one is on its way. Uses seen, chosen and names of its process. */
inline wake()
{
    do
    :: seen = waking;
        if
        :: seen != 0 && !waiting[seen - 1] -> break /* it is believed */
        :: skip                                     /* it is too old, or there is none */
        fi;
        atomic { /* one load of the set; another one waits, too, or not */
            if
            :: waiting[0] -> chosen = 0
            :: waiting[1] -> chosen = 1
            :: waiting[2] -> chosen = 2
            :: else -> break
            fi;
            if
            :: names = 1
            :: names = 0
            fi
        };
        if
        :: names -> waking = chosen + 1;
            POINT
            skip
        :: else
        fi;
        if
        :: atomic { waiting[chosen] -> waiting[chosen] = 0 };
            POINT
            rung[chosen] = 1;
            if
            :: break
            :: atomic { names -> waking = 0 } /* it runs: the next one is woken as well */
            :: !names
            fi
        :: atomic { !waiting[chosen] -> skip };
#ifndef NO_CLEAR_FAILED
            if
            :: names -> waking = 0
            :: else
            fi
#endif
        fi
    od;
    atomic { seen = 0; chosen = 0; names = 0 }
}

inline reap()
{
#ifndef NO_REAPER
    waking = 0;
#endif
    chosen = 0;
    do
    :: chosen < CONSUMERS -> atomic { everything[chosen] = 1; rung[chosen] = 1; chosen++ }
    :: else -> break
    od
}

proctype producer()
{
    byte seen, chosen, left = PUTS;
    bit names;
    do
    :: left > 0 ->
        atomic { left--; messages++ };
        POINT
        wake()
    :: else -> goto ended
    od;
#ifdef DEATHS
died:
    reap();
#endif
ended:
    skip
}

inline clear_name()
{
    if
    :: waking == i + 1 -> waking = 0
    :: else
    fi
}

proctype consumer(byte i)
{
    byte seen, chosen, left = ROUNDS;
    bit names, had_turn;
again:
    if
    :: left == 0 -> goto ended
    :: atomic { left > 0 -> left--; waiting[i] = 1 }
    fi;
look:
    if
    :: atomic { messages > 0 -> messages-- }; goto leave
    :: atomic { messages == 0 -> asleep[i] = 1 }
    fi;
end_asleep:
    if
    :: atomic { rung[i] -> rung[i] = 0; asleep[i] = 0 }
    :: atomic { left == 0 -> asleep[i] = 0 }; goto leave /* a timeout */
    MAY_DIE
    fi;
    if
    :: atomic { everything[i] -> everything[i] = 0; waiting[i] = 0 }
    :: atomic { !everything[i] && waiting[i] -> asleep[i] = 1 }; goto end_asleep
    :: atomic { !everything[i] && !waiting[i] -> skip }
    fi;
#ifndef NO_CLEAR_AWAKE
    clear_name();
#endif
    POINT
    if
    :: messages > 1 -> wake()
    :: messages <= 1
    fi;
    if
    :: atomic { messages > 0 -> messages-- }
    :: atomic { messages == 0 -> waiting[i] = 1 }; goto look /* files itself again, in front */
    fi;
    had_turn = 1;
    goto pass_on;
leave:
    atomic { had_turn = !waiting[i]; waiting[i] = 0 };
#ifndef NO_CLEAR_LEAVING
    clear_name();
#endif
pass_on:
    POINT
    if
    :: had_turn && messages > 0 -> wake()
    :: else
    fi;
    had_turn = 0;
    goto again;
#ifdef DEATHS
died:
    atomic { asleep[i] = 0; waiting[i] = 0 };
    reap();
#endif
ended:
    skip
}

init
{
    byte k;
    atomic {
        for (k : 0 .. CONSUMERS - 1) { run consumer(k) }
        for (k : 0 .. PRODUCERS - 1) { run producer() }
    };
    timeout ->
        for (k : 0 .. CONSUMERS - 1) { assert(messages == 0 || !asleep[k]) }
}
