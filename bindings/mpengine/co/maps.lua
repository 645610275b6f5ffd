--- The maps of co.Pool, as mp.Pool has them: the same names, orders and options, in tasks.
local core = require "mpengine.core"
local check = require "mpengine.check"
local cancel = require "mpengine.co.cancel"
local errors = require "mpengine.errors"
local events = require "mpengine.co.events"

local OPTIONS <const> = { chunksize = true, progress = true, timeout = true, retries = true,
    callback = true, error_callback = true }

local function check_options(call, index, opts)
    if opts == nil then return {} end
    if type(opts) == "number" then return { chunksize = opts } end
    check.type(call, index, opts, "table")
    for key in pairs(opts) do
        if not OPTIONS[key] then error(("%s: unknown option '%s'"):format(call, tostring(key)), 3) end
    end
    check.timeout(call, index, opts.timeout)
    return opts
end

-- An iterator over a list, an iterator function, or an object with __call: index, item; nil ends.
local function items_of(call, source)
    if type(source) == "table" and not (getmetatable(source) or {}).__call then
        local i, n = 0, #source
        return function()
            i = i + 1
            if i <= n then return i, source[i] end
        end
    end
    if type(source) ~= "function" and type(source) ~= "table" then
        error(("bad argument #2 to '%s' (list or iterator expected, got %s)"):format(call, type(source)), 3)
    end
    local i = 0
    return function()
        local item = source()
        if item == nil then return nil end
        i = i + 1
        return i, item
    end
end

-- f under the timeout of a single call, which is an error when it passes.
local function limited(f, timeout)
    if not timeout then return f end
    return function(...)
        local results = table.pack(cancel.with_timeout(timeout, function(...) return true, f(...) end, ...))
        if results[1] then return table.unpack(results, 2, results.n) end
        error(errors.new { kind = "timeout", message = ("the task took longer than %g s"):format(timeout) }, 0)
    end
end

local function spread(f)
    return function(args)
        return f(table.unpack(args, 1, args.n or #args))
    end
end

-- The results in order. Raises the first error, once the others have been killed.
local function run_map(self, f, source)
    local results, spawned, running, failed = {}, {}, {}, nil
    local ok, err = core.call(function()
        for i, item in source do
            if failed then break end
            local task
            task = self:spawn(function()
                local good, value = core.call(f, item)
                running[task] = nil
                if good then
                    results[i] = value
                elseif not failed then
                    failed = { value }
                    for other in pairs(running) do other:kill("map") end
                end
            end)
            running[task], spawned[#spawned + 1] = true, task
        end
        core.joinall(spawned)
    end)
    if not ok then
        for task in pairs(running) do task:kill("map") end
        error(err, 0)
    end
    if failed then error(failed[1], 0) end
    return results
end

local function call_back(result, opts)
    return function(ok, ...)
        if ok then
            result:set(...)
            if opts.callback then opts.callback(...) end
        else
            result:set_error((...))
            if opts.error_callback then opts.error_callback((...)) end
        end
    end
end

-- Runs f(...) in a task that is not one of the pool: only what it spawns is.
local function in_background(opts, f, ...)
    local result = events.AsyncResult()
    local finish = call_back(result, opts)
    local task = core.spawn_task(function(...) finish(core.call(f, ...)) end, ...)
    function result.cancel()
        if result.done then return false end
        task:kill("cancelled")
        result:set_error(errors.new { kind = "cancelled", message = "cancelled" })
        return true
    end
    return result
end

-- The next of imap: keeps at most as many tasks as the pool has room for, and no more finished
-- results than that.
local function start_imap(self, f, source)
    local state = { done = {}, ready = core.waitlist(), source = source, running = 0 }
    local window = math.min(self.size or 1000, 1000)
    local function start_one()
        local i, item = source()
        if i == nil then
            state.ended = true
            return
        end
        state.running = state.running + 1
        self:spawn(function()
            local outcome = table.pack(core.call(f, item))
            outcome.index = i
            state.running = state.running - 1
            state.done[#state.done + 1] = outcome
            state.ready:wake()
        end)
    end
    function state.fill(kept)
        while not state.ended and state.running + kept < window do start_one() end
    end
    return state
end

local function deliver(outcome)
    if not outcome[1] then error(outcome[2], 0) end
    return outcome.index, outcome[2]
end

local function imap(self, f, source)
    local state, kept, n, at = start_imap(self, f, source), {}, 0, 0
    return function()
        while not kept[at + 1] do
            state.fill(n)
            for i, outcome in ipairs(state.done) do
                kept[outcome.index], state.done[i], n = outcome, nil, n + 1
            end
            if not kept[at + 1] then
                if state.ended and state.running == 0 and #state.done == 0 then return nil end
                if #state.done == 0 then state.ready:wait() end
            end
        end
        at = at + 1
        local outcome = kept[at]
        kept[at], n = nil, n - 1
        state.fill(n)
        return deliver(outcome)
    end
end

local function imap_unordered(self, f, source)
    local state = start_imap(self, f, source)
    return function()
        while #state.done == 0 do
            state.fill(0)
            if #state.done == 0 then
                if state.ended and state.running == 0 then return nil end
                state.ready:wait()
            end
        end
        local outcome = table.remove(state.done, 1)
        state.fill(#state.done)
        return deliver(outcome)
    end
end

--- Adds the maps to the methods of the pool.
return function(methods)
    local function prepare(call, f, source, opts)
        if type(f) ~= "function" then
            error(("bad argument #1 to '%s' (function expected, got %s)"):format(call, type(f)), 3)
        end
        opts = check_options(call, 3, opts)
        return limited(f, opts.timeout), items_of(call, source), opts
    end

    --- f(item) for each: the list of the first results, in order.
    function methods:map(f, list, opts)
        local g, items = prepare("map", f, list, opts)
        return run_map(self, g, items)
    end

    function methods:map_async(f, list, opts)
        local g, items, o = prepare("map_async", f, list, opts)
        return in_background(o, run_map, self, g, items)
    end

    --- f(table.unpack(item)) for each.
    function methods:starmap(f, list, opts)
        local g, items = prepare("starmap", f, list, opts)
        return run_map(self, spread(g), items)
    end

    function methods:starmap_async(f, list, opts)
        local g, items, o = prepare("starmap_async", f, list, opts)
        return in_background(o, run_map, self, spread(g), items)
    end

    --- for i, v in pool:imap(f, list): in order, as they come.
    function methods:imap(f, list, opts)
        local g, items = prepare("imap", f, list, opts)
        return imap(self, g, items)
    end

    --- for i, v in pool:imap_unordered(f, list): as they come; i is the item's index.
    function methods:imap_unordered(f, list, opts)
        local g, items = prepare("imap_unordered", f, list, opts)
        return imap_unordered(self, g, items)
    end

    local function apply(self, f, args)
        return self:spawn(f, table.unpack(args, 1, args.n or #args)):get()
    end

    --- The results of f(table.unpack(args)), run in the pool.
    function methods:apply(f, args)
        check.type("apply", 1, f, "function")
        if args ~= nil then check.type("apply", 2, args, "table") end
        return apply(self, f, args or {})
    end

    function methods:apply_async(f, args, opts)
        check.type("apply_async", 1, f, "function")
        if args ~= nil then check.type("apply_async", 2, args, "table") end
        local o = check_options("apply_async", 3, opts)
        return in_background(o, apply, self, limited(f, o.timeout), args or {})
    end
end
