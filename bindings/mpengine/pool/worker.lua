--- The code of a pool's worker process: it takes a task, finds the function, and lets
--- lpool_worker.c run it and send the results.
local core = require "mpengine.core"
local errors = require "mpengine.errors"

local worker = {}

--- Modes of a task, as in lpool.h.
worker.APPLY, worker.MAP, worker.STAR, worker.TIMED, worker.REASON, worker.PACK = 1, 2, 4, 16, 32, 64

local functions            -- shared dict: number -> function or shared value; see publish.lua
local cache, cached, generation = {}, 0, nil
local CACHE_MAX = 256

local function forget(id)
    cache[id] = nil
    cached = cached - 1
end

--- Drops the values that the pool has dropped.
local function follow()
    local current = functions:get(0)
    if current == generation then return end
    generation = current
    for id in pairs(cache) do
        if not functions:has(id) then forget(id) end
    end
end

--- A function or shared value by its number, fetched once. Functions of a starmap take lists.
local function known(id)
    local entry = cache[id]
    if entry then return entry.value end
    follow()
    if cached >= CACHE_MAX then cache, cached = {}, 0 end
    local value = functions:get(id)
    cache[id] = { value = value }
    cached = cached + 1
    return value
end

local raised, report -- the last error, and the error object for the parent

--- Releases what ended tasks have brought: kept values with shared objects, which have odd numbers,
--- and garbage.
local function release()
    for id in pairs(cache) do
        if id % 2 == 1 then forget(id) end
    end
    raised, report = nil, nil
    core.pool_release()
end

local function report_of(err, traceback)
    return { message = errors.message(err), traceback = traceback, value = err, pid = core.pid() }
end

--- Message handler of a task. It leaves the error as it is, since load may catch it. is_final: it
--- was not caught, and its report is wanted.
local function describe(err, is_final)
    if not is_final then
        raised, report = err, report_of(err, errors.with_origin(errors.stack(2, err), err))
        return err
    end
    local final = report and rawequal(err, raised) and report or report_of(err)
    raised, report = nil, nil
    return final
end

--- Turns the function of a starmap task into one of items.
local function spread(f)
    return function(item, ...)
        if type(item) ~= "table" then
            error(string.format("starmap: an item is a %s, not a list of arguments", type(item)), 0)
        end
        if select("#", ...) > 0 then return f(..., table.unpack(item, 1, item.n or #item)) end
        return f(table.unpack(item, 1, item.n or #item))
    end
end

--- Runs one task: true, or nil and why there is none: "empty", "release" or the end.
local function run(mode, f_id, shared_id, ...)
    if not mode then return nil, f_id end
    local ok, f = pcall(known, f_id)
    local fine, shared = true, nil
    if shared_id ~= 0 then fine, shared = pcall(known, shared_id) end
    if mode == 0 or not ok or not fine then
        local why = not ok and f or not fine and shared or (...)
        core.pool_reject{ message = "the task cannot be received: " .. errors.message(why), pid = core.pid() }
    elseif mode == worker.APPLY then
        core.pool_call(describe, f, ...)
    else
        core.pool_items(describe, mode & worker.STAR == 0 and f or spread(f), shared_id ~= 0, shared, ...)
    end
    return true
end

local function initialize(initializer, initargs)
    if not initializer then return true end
    local ok, err = xpcall(initializer, describe, table.unpack(initargs, 1, initargs.n or #initargs))
    if not ok then core.pool_tell(describe(err, true)) end
    return ok
end

--- The worker's main function, sent by name. It counts as ready with its first result, or reports
--- that it is ready when there is no task at once.
function worker.main(index, inbox, outbox, control, buffer, dict, initializer, initargs, max)
    functions = dict
    cache, cached, generation = {}, 0, nil -- this process may be a worker's child
    core.pool_worker(control, index, outbox, buffer)
    if not initialize(initializer, initargs) then return end
    core.pool_ready()
    local done, ok, why = 0, run(core.pool_take(inbox, 0))
    if not ok and why == "empty" then core.pool_tell() end
    while true do
        if ok then
            done = done + 1
            if done == max then return end
        elseif why == "release" then
            release()
        elseif why ~= "empty" then
            return
        end
        ok, why = run(core.pool_take(inbox))
    end
end

return worker
