--- The pool of a remote manager: its calls. Workers on any machine run its tasks (remote/worker.lua);
--- remote/outstanding.lua has those that have not ended.
local check = require "mpengine.check"
local client = require "mpengine.remote.client"
local core = require "mpengine.core"
local envelope = require "mpengine.remote.envelope"
local errors = require "mpengine.errors"
local functions = require "mpengine.remote.functions"
local options = require "mpengine.pool.options"
local outcome = require "mpengine.remote.outcome"
local outstanding = require "mpengine.remote.outstanding"
local Result = require "mpengine.pool.result"
local scripts = require "mpengine.remote.tasks"

---@class mpengine.remote.Pool
local Pool = { __name = "mp.remote.Pool" }
local methods = {}
Pool.__index = methods

local PRIORITIES <const> = { high = true, normal = true, low = true }

-- ---- options ---------------------------------------------------------------------------------

local function is_count(v) return math.type(v) == "integer" and v >= 0 end
local function is_seconds(v) return type(v) == "number" and v >= 0 end

local SECONDS <const> = "a number of seconds, 0 or more"

local OPTIONS <const> = {
    callback = { check.is_callable, "a function" }, error_callback = { check.is_callable, "a function" },
    timeout = { is_seconds, SECONDS }, delay = { is_seconds, SECONDS }, expires = { is_seconds, SECONDS },
    retries = { is_count, "an integer, 0 or more" }, retry_errors = { is_count, "an integer, 0 or more" },
    priority = { function(v) return PRIORITIES[v] ~= nil end, "'high', 'normal' or 'low'" },
    chunksize = { function(v) return math.type(v) == "integer" and v >= 1 end, "an integer, 1 or more" },
    ahead = { function(v) return math.type(v) == "integer" and v >= 1 end, "an integer, 1 or more" },
    pack = { function(v) return type(v) == "boolean" end, "a boolean" },
    return_exceptions = { function(v) return type(v) == "boolean" end, "a boolean" },
    progress = { function(v) return type(v) == "boolean" or type(v) == "function" or v == "lines" end,
        "true, 'lines' or a function" },
}

local function set(...)
    local all = {}
    for _, name in ipairs { ... } do all[name] = true end
    return all
end

local of_pool <const> = set("timeout", "retries", "retry_errors", "priority", "expires")
local of_call <const> = set("timeout", "retries", "retry_errors", "priority", "expires", "delay", "callback",
    "error_callback")
local of_map <const> = set("timeout", "retries", "retry_errors", "priority", "expires", "callback", "error_callback",
    "chunksize", "ahead", "pack", "return_exceptions", "progress")

--- The options of a call on top of those of the pool.
local function merged(pool, call, opts, allowed)
    if opts == nil then return pool.opts end
    check.type(call, 3, opts, "table")
    local all = {}
    for name, value in pairs(pool.opts) do all[name] = value end
    for name, value in pairs(opts) do
        all[name] = value
        if not allowed[name] then options.unknown(call, name, allowed) end
        if not OPTIONS[name][1](value) then
            errors.raise(("%s: option '%s' must be %s, got %s"):format(call, name, OPTIONS[name][2],
                type(value) == "number" and value or check.kind(value)))
        end
    end
    return all
end

-- ---- calls -----------------------------------------------------------------------------------

local function check_pool(self, call)
    if getmetatable(self) ~= Pool then check.bad_self(call, Pool.__name, self) end
    local pool = self.pool
    if pool.owner ~= core.pid() then errors.raise(call .. ": the pool belongs to another process") end
    return pool
end

local function check_call(self, call, f)
    local pool = check_pool(self, call)
    if pool.closed then errors.raise(call .. ": the pool is closed") end
    return pool, functions.name(call, 1, f)
end

local function cancel_one(pool, result) outstanding.cancel(pool, { result.number }) end

--- A task of a call is its AsyncResult.
local Call = Result.class { cancel_with = cancel_one }

function Call:done(bytes, from, to, err)
    local manager = self.pool.manager
    self.bytes, self.pool = nil, nil
    if err then return self:set_error(err) end
    outcome.settle(manager, self, bytes, from, to)
end

local function apply_async(self, call, f, args, opts)
    local pool, name = check_call(self, call, f)
    if args ~= nil then check.type(call, 2, args, "table") end
    args = args or {}
    local n = args.n or #args
    opts = merged(pool, call, opts, of_call)
    -- All fields that are set later, so that the table need not grow.
    local result = setmetatable({ handle = self, pool = nil, number = nil, bytes = nil, tail = nil, state = nil,
        n = nil, values = nil }, Call)
    if opts ~= pool.opts then result.callback, result.error_callback = opts.callback, opts.error_callback end
    outstanding.add(pool, call, name, table.move(args, 1, n, 1, { n = n }), opts, 0, result)
    return result
end

--- Starts f(args): an AsyncResult.
---@param f function|string a function of a module, or "module.function"
---@param args? table
---@param opts? table callback, error_callback, timeout, retries, retry_errors, priority, delay, expires
function methods:apply_async(f, args, opts) return apply_async(self, "Pool:apply_async", f, args, opts) end

--- The results of f(args); raises its error.
function methods:apply(f, args, opts)
    local result <close> = apply_async(self, "Pool:apply", f, args, opts)
    return result:get()
end

local function state(pool)
    local s = outstanding.run(pool, true, scripts.STATE)
    return { processes = s[1], workers = s[2], ready = s[3], delayed = s[4], dead = s[5],
        outstanding = pool.outstanding }
end

--- What the server knows: processes and workers that are alive, tasks that are ready, delayed and dead.
function methods:stats() return state(check_pool(self, "Pool:stats")) end

--- The processes of the workers, asked at most once a second.
local function slots(pool)
    if not pool.slots or core.now() - pool.slots_at > 1 then
        pool.slots, pool.slots_at = math.max(1, state(pool).processes), core.now()
    end
    return pool.slots
end

local Chunk = {}
Chunk.__index = Chunk

function Chunk:done(bytes, from, to, err)
    self.bytes = nil
    self.finished(outcome.chunk(self.items, self.count, self.pool.manager, bytes, from, to, err))
end

--- Starts f for each item of a list: `finished(values, errs, reasons)` is called for the chunk. Returns its number.
function Pool.chunk(pool, call, name, items, n, opts, star, finished)
    local flags = envelope.ITEMS | (star and envelope.STAR or 0) | (opts.pack and envelope.PACK or 0)
    items.n = n
    return outstanding.add(pool, call, name, items, opts, flags,
        setmetatable({ items = items, count = n, finished = finished }, Chunk))
end

Pool.cancel, Pool.slots, Pool.merged, Pool.check_call = outstanding.cancel, slots, merged, check_call
Pool.of_map = of_map

-- ---- the pool itself -------------------------------------------------------------------------

--- No more tasks.
function methods:close() check_pool(self, "Pool:close").closed = true end

--- No more tasks; the outstanding ones fail with kind "terminated".
function methods:terminate()
    local pool = check_pool(self, "Pool:terminate")
    pool.closed = true
    local numbers, kept = outstanding.numbers(pool), {}
    for i, number in ipairs(numbers) do kept[i] = pool.client.tasks[number] end
    local _ <close> = setmetatable({}, { __close = function() -- also without a server
        for _, task in ipairs(kept) do
            task:done(nil, nil, nil, errors.new { kind = "terminated", message = "the pool was terminated" })
        end
    end })
    outstanding.cancel(pool, numbers)
end

--- Waits until all tasks have ended: true, or nil and "timeout". Raises before close or terminate.
---@param timeout? number seconds
function methods:join(timeout)
    local pool = check_pool(self, "Pool:join")
    check.timeout("Pool:join", 1, timeout)
    if not pool.closed then errors.raise("Pool:join: the pool is still open (close or terminate it first)") end
    local deadline = timeout and core.now() + timeout
    while pool.outstanding > 0 do
        local ok, why = pool.changed:wait(deadline and math.max(0, deadline - core.now()))
        if not ok and pool.outstanding > 0 then return nil, why end
    end
    return true
end

function Pool:__close()
    if self.pool.owner == core.pid() then self:terminate() end
end

function Pool:__tostring()
    local pool = self.pool
    return ("mp.remote.Pool: %s (%s, %d tasks)"):format(pool.queue, pool.client.address.shown, pool.outstanding)
end

--- Makes the pool of a manager: m:Pool{ queue = "default", … }, options of calls as defaults.
function Pool.open(manager, opts)
    if opts ~= nil then check.type("Manager:Pool", 1, opts, "table") end
    local own = {}
    for name, value in pairs(opts or {}) do own[name] = value end
    local queue = own.queue or "default"
    own.queue = nil
    if type(queue) ~= "string" or not queue:find "^[%w_.-]+$" then
        errors.raise("Manager:Pool: option 'queue' must be letters, digits, '_', '.' and '-'")
    end
    local c = client.of(manager)
    local key = envelope.key(manager.key_file)
    if not key and not c.address.is_local then
        errors.raise(("Manager:Pool: %s is no server of this machine: a key_file is expected, to sign tasks"):format(
            c.address.shown))
    end
    merged({ opts = {} }, "Manager:Pool", own, of_pool)
    local pool = outstanding.new { manager = manager, client = c, queue = queue, key = key, opts = own,
        owner = core.pid() }
    c:keep_alive()
    return setmetatable({ pool = pool }, Pool)
end

require("mpengine.remote.maps").add(Pool, methods)

return { Pool = Pool }
