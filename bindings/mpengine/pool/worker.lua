--- What a pool's worker process runs. Its side of the protocol in lpool.c: take a task, claim each
--- item before running it, send what came of it.
local core = require "mpengine.core"
local errors = require "mpengine.errors"

local worker = {}

local MODE_APPLY, MODE_MAP, MODE_STARMAP = 1, 2, 3
worker.APPLY, worker.MAP, worker.STARMAP = MODE_APPLY, MODE_MAP, MODE_STARMAP

--- Notices beside results: their id is 0.
worker.READY, worker.INIT_FAILED, worker.RETIRED = 1, 2, 3

local inbox, outbox, control, functions, index
local cache, cached = {}, 0
local CACHE_MAX = 256

--- A function or shared value by its number, fetched once.
local function known(id)
    local entry = cache[id]
    if entry then return entry.value end
    if cached >= CACHE_MAX then cache, cached = {}, 0 end
    local value = functions:get(id)
    cache[id] = { value = value }
    cached = cached + 1
    return value
end

--- Message handler of a task: what the parent will raise.
local function describe(err)
    return {
        message = errors.message(err), traceback = debug.traceback(nil, 2), value = err, pid = core.pid(),
    }
end

local function send_error(id, elapsed, report)
    if pcall(core.send, outbox, "result", id, elapsed, false, report) then return end
    report.value = nil -- it cannot be sent; its text went with the message
    core.send(outbox, "result", id, elapsed, false, report)
end

local function send_results(id, from, ok, ...)
    local elapsed = core.now() - from
    if not ok then return send_error(id, elapsed, (...)) end
    local sent, why = pcall(core.send, outbox, "result", id, elapsed, true, ...)
    if not sent then
        send_error(id, elapsed, { message = "the result cannot be sent: " .. tostring(why), pid = core.pid() })
    end
end

local function run_apply(number, id, f, ...)
    if not core.pool_claim(control, number, 1) then return end
    local from = core.now()
    return send_results(id, from, xpcall(f, describe, ...))
end

local function call_star(f, item, shared)
    if type(item) ~= "table" then
        error(("starmap: an item is a %s, not a list of arguments"):format(type(item)), 0)
    end
    if shared ~= nil then return f(shared, table.unpack(item, 1, item.n or #item)) end
    return f(table.unpack(item, 1, item.n or #item))
end

--- Runs one item; its first result, or nil and the report of its error.
local function run_item(mode, f, item, shared)
    local ok, value
    if mode == MODE_STARMAP then
        ok, value = xpcall(call_star, describe, f, item, shared)
    else
        ok, value = xpcall(f, describe, item, shared)
    end
    if ok then return value end
    return nil, value
end

--- Sends the results of a chunk: count, the failed ones' reports by position, the values.
local function send_chunk(id, elapsed, count, failed, results)
    local sent, why = pcall(core.send, outbox, "result", id, elapsed, count, failed,
        table.unpack(results, 1, count))
    if sent then return end
    -- some value cannot be sent: find which, and make that the item's own error
    failed = failed or {}
    for i = 1, count do
        if not failed[i] and not pcall(core.encode_value, "result", "result", results[i]) then
            failed[i] = { message = "the result cannot be sent: " .. tostring(why), pid = core.pid() }
            results[i] = nil
        elseif failed[i] and not pcall(core.encode_value, "result", "error", failed[i]) then
            failed[i].value = nil
        end
    end
    core.send(outbox, "result", id, elapsed, count, failed, table.unpack(results, 1, count))
end

local function run_chunk(number, id, mode, f, shared, ...)
    local total, results, failed, count = select("#", ...), { ... }, false, 0
    local from = core.now()
    for i = 1, total do
        if not core.pool_claim(control, number, i) then break end
        local value, report = run_item(mode, f, results[i], shared)
        results[i] = value
        if report then
            failed = failed or {}
            failed[i] = report
        end
        count = i
        if report and core.pool_stopped(control, index) then break end
    end
    if count > 0 then send_chunk(id, core.now() - from, count, failed, results) end
end

--- Runs one task; false when the pool is closed.
local function run(number, id, f_id, shared_id, mode, ...)
    if not number then return false end
    local f = known(f_id)
    if mode == MODE_APPLY then
        run_apply(number, id, f, ...)
    else
        run_chunk(number, id, mode, f, shared_id and known(shared_id) or nil, ...)
    end
    return true
end

--- The worker's main function, sent by name.
function worker.main(place, queue_in, queue_out, words, dict, initializer, initargs, max)
    inbox, outbox, control, functions, index = queue_in, queue_out, words, dict, place
    cache, cached = {}, 0 -- this process may be a worker's child
    core.pool_worker(control, index)
    if initializer then
        local ok, report = xpcall(initializer, describe, table.unpack(initargs, 1, initargs.n or #initargs))
        if not ok then
            report.value = nil
            core.send(outbox, "initializer", 0, 0, worker.INIT_FAILED, index, report)
            return
        end
    end
    core.send(outbox, "worker", 0, 0, worker.READY, index)
    local done = 0
    while run(core.pool_take(inbox, control, index)) do
        done = done + 1
        if done == max or core.pool_retires(control, index) then
            core.send(outbox, "worker", 0, 0, worker.RETIRED, index)
            return
        end
    end
end

return worker
