--- The words for a call at the wrong time: one table for the objects of mp and of mp.co, in Lua
--- (check.misuse) and in C (lmpe_misuse in lcheck.c). A message is the call as the manual names it and
--- the words: "Lock:release: the lock is not held". Wrong arguments are in check.lua.
return {
    lock_not_held = "the lock is not held",
    lock_not_mine = "the lock is not held by this task",
    all_permits = "called too many times: it has all its permits already",
    condition_not_mine = "the condition's lock is not held by this task",
    all_done = "called more often than there were items (one call per item expected)",
    not_joinable = "the queue is not a JoinableQueue",
    nil_item = "a nil item would end the loop",
    result_is_set = "the result was set already",
    result_not_ready = "the result is not ready",
}
