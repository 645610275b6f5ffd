--- The functions of the Lua side that are called from below: by C (lmpe_push_hook), or by a module
--- that the one with the function is built on. A module sets its own when it is loaded. As long as
--- it is not, the field is nil, and the caller does without.
---
--- None but kill_tasks and cache_fetch may wait: most are called where nothing can.
local core = require "mpengine.core"

---@class mpengine.hooks
local hooks = core.hooks

--- A task has ended that has notes, or whose error no waiting get will raise (unheard). Called by
--- lrun.c on the thread that drives the loop. An error in it becomes a warning. C loads the module
--- for it: co/tasks.lua.
---@alias mpengine.hooks.task_ended fun(task: mp.Task, unheard: boolean)

--- A task is about to be made, and shared objects have been made since the last call: the sentinel
--- whose finalizer ends the tasks must be newer than they are. Called by lrun.c in spawn, which
--- raises its error. Set by co/ending.lua.
---@alias mpengine.hooks.renew_sentinel fun()

--- The running task has not waited for so long. Called by lticker.c between two instructions of
--- its code. Errors are dropped. Set by co/tasks.lua.
---@alias mpengine.hooks.overdue fun(traceback: string, seconds: number)

--- A signal has arrived that the script handles. Called by lsignal.c at a wait, or (at_once)
--- between two instructions of code that may not wait for a long time. Errors are dropped. Set by
--- signal.lua.
---@alias mpengine.hooks.signal fun(number: integer, at_once: boolean)

--- The main chunk, or the target of a child, has ended: kills the remaining tasks, and waits until
--- they have ended. Called by main.lua and process.lua. Set by co/ending.lua.
---@alias mpengine.hooks.kill_tasks fun()

--- Every task waits for something that can never come. Called by ldrive.c; returns the message of
--- the error that ends the wait, or a function that returns it, is called when the wait has ended,
--- and may itself wait. An error in it gives way to a general message.
---@return string|fun(): string
function hooks.deadlock() return require("mpengine.deadlock").describe() end

--- c:fetch(k, f, opts) of a key that is not there. Called by lcache_fetch.c.
function hooks.cache_fetch(...) return require("mpengine.cache").fetch(...) end

--- A value may have a descriptor, and is sent to another process: passing.lua. Called by ldescriptor.c, in
--- the middle of a message; its error is that of the message.
function hooks.pass(value) return require("mpengine.passing").pass(value) end

--- A descriptor has arrived with its note, or nil, when it was closed on its way. Called by ldescriptor.c; an
--- error leaves the descriptor to it.
function hooks.receive(fd, note) return require("mpengine.passing").receive(fd, note) end

--- A reader asks this process something, or (nil) its answer goes on, or (false) ends, since the reader is
--- gone: returns bytes of it, or nil, and whether there is more. Called by lanswer.c at a wait, or between
--- two instructions of code that may not wait for a long time. An error ends the answer.
---@alias mpengine.hooks.answer fun(question?: string|false): string?, boolean?
function hooks.answer(question) return require("mpengine.look.answer").go_on(question) end

return hooks
