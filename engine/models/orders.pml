/* Pairs of accesses of two processes that a processor with a weak order may do, or show to others, in
 * another order than that of their text. Where nothing orders them, a process here does them either way.
 * Stores, once done, are seen by all at once, as on aarch64. docs/internals.md lists the structures.
 *
 * LOOK    store, then look: each stores its word and reads the other's; one of the two must see the other.
 *         A waiter and a waker, a holder and a destroyer, a set and a clear of an event, ...
 * FOLLOW  what is followed was there: one stores two words, the other reads them in the other order.
 *         A change and the bit that is taken out, a version and what it guards, a record and its count, ...
 *
 * One of these is defined. Each of ORDER1 and ORDER2 that is not defined leaves out the order of the first or
 * of the second process; then the pair must be found to be wrong.
 */
bit a, b, seen_a, seen_b;
byte ended;

/* Both, in this order if it is kept, else in any. */
#define BOTH(kept, x, y) if :: atomic { x }; atomic { y } :: !kept -> atomic { y }; atomic { x } fi

#ifdef ORDER1
#define KEPT1 1
#else
#define KEPT1 0
#endif
#ifdef ORDER2
#define KEPT2 1
#else
#define KEPT2 0
#endif

active proctype one()
{
#ifdef LOOK
    BOTH(KEPT1, a = 1, seen_b = b);
#else
    BOTH(KEPT1, a = 1, b = 1);
#endif
    ended++
}

active proctype other()
{
#ifdef LOOK
    BOTH(KEPT2, b = 1, seen_a = a);
#else
    BOTH(KEPT2, seen_b = b, seen_a = a);
#endif
    ended++
}

active proctype check()
{
    ended == 2;
#ifdef LOOK
    assert(seen_a || seen_b)
#else
    assert(!seen_b || seen_a)
#endif
}
