--- mp.wait: the ready ones among processes, queues, pipe ends, events, async results and tasks.
local core = require "mpengine.core"
local check = require "mpengine.check"
local process = require "mpengine.process"

local ended = core.waitlist() -- stands for a parent that has exited

--- How to check whether a thing is ready, and what to wait for until it is: each returns a function
--- and a value that core.file_any accepts.
local function queue_source(queue)
    return function() return queue:qsize() > 0 or queue:is_closed() end, queue
end

local by_name = {
    ["mp.Queue"] = queue_source,
    ["mp.JoinableQueue"] = queue_source,
    ["mp.Event"] = function(event) return function() return event:is_set() end, event end,
    ["mp.Pipe"] = function(pipe_end)
        local queue = core.pipe_incoming(pipe_end)
        if not queue then error("wait: an end of a pipe that only sends cannot be waited for", 0) end
        return queue_source(queue)
    end,
    ["mp.Task"] = function(task)
        return function() return core.is_done(task) end, task
    end,
    ["mp.Process"] = function(p)
        local child = process.child_of(p) or process.is_parent(p) and (core.parent_fd() or ended)
        if not child then error("wait: the process has not been started", 0) end
        return function() return not p:is_alive() end, child
    end,
    ["mp.AsyncResult"] = function(result)
        if not result.state and not result.waiters then result.waiters = core.waitlist() end
        return function() return result.state ~= nil end, result.waiters
    end,
    -- the objects of mp.co define themselves how to wait for them
    other = function(object, meta)
        local source = meta and meta.__wait_source
        if source then return source(object) end
    end,
}

--- The ready function and the source of one element of the list; level as for error.
local function source_of(call, object, index, level)
    local meta = debug.getmetatable(object)
    local make = meta and by_name[rawget(meta, "__name")] or by_name.other
    local ready, source = make(object, type(meta) == "table" and meta or nil)
    if not ready then
        error(("%s: list[%d] cannot be waited for: a process, queue, pipe end, event, result or task expected, got %s")
            :format(call, index, meta and rawget(meta, "__name") or type(object)), level + 1)
    end
    return ready, source
end

local function collect(list, ready)
    local found = {}
    for i, is_ready in ipairs(ready) do
        if is_ready() then found[#found + 1] = list[i] end
    end
    return found
end

--- mp.wait(list [, timeout]) -> list of the ready ones, in their order; empty after the timeout.
local function wait(list, timeout)
    if type(list) ~= "table" then check.fail("wait", 1, "list", list) end
    check.timeout("wait", 2, timeout)
    local ready, sources = {}, {}
    for i, object in ipairs(list) do
        ready[i], sources[#sources + 1] = source_of("wait", object, i, 2)
    end
    local deadline = timeout and core.now() + timeout
    while true do
        local found = collect(list, ready)
        local left = deadline and deadline - core.now()
        if #found > 0 or #list == 0 or (left and left <= 0) then
            core.did(found[1])
            return found
        end
        local filed = core.file_any(sources)
        found = collect(list, ready) -- those that became ready before the waiters were filed
        if #found > 0 then
            core.unfile(filed)
            return found
        end
        core.wait_any(filed, left)
    end
end

return { wait = wait, source_of = source_of }
