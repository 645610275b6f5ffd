--- mpengine worker: runs the tasks of queues in processes of a local pool. This process speaks to the server
--- and runs nothing of the tasks, so it is heard of whatever they do. It asks for as many tasks as it has
--- room for, and says how they ended with its next question.
local co = require "mpengine.co"
local core = require "mpengine.core"
local client = require "mpengine.remote.client"
local envelope = require "mpengine.remote.envelope"
local errors = require "mpengine.errors"
local job = require "mpengine.remote.job"
local Manager = require("mpengine.remote.manager").Manager
local outcome = require "mpengine.remote.outcome"
local run = require "mpengine.remote.run"
local Pool = require("mpengine.pool").Pool
local scripts = require "mpengine.remote.tasks"

local worker = {}

local AHEAD <const> = 0.02 -- seconds of work that are asked for in advance, for each process
local MOST <const> = 64 -- tasks in advance for each process
local BYTES <const> = 1 << 20 -- of ends in one script, unless one has more
local PAUSE <const> = 1 -- seconds until a server that refuses is asked again
local LATE <const> = 60 -- seconds that a message is late at most of a task that was resumed
local FAREWELL <const> = 5 -- seconds to say goodbye to the server at the end

---@class mpengine.remote.worker.Options
---@field processes integer
---@field queues string[]
---@field allow string[]? patterns of names, with '*'
---@field grace number seconds for what runs at the end
---@field manager mpengine.remote.Options

-- ---- which functions -------------------------------------------------------------------------

local function pattern_of(text)
    return "^" .. text:gsub("[%^%$%(%)%%%.%[%]%+%-%?]", "%%%0"):gsub("%*", ".*") .. "$"
end

--- Whether a function may be run: mostly the last one that may.
local function is_allowed(w, name)
    if not w.allow or w.allowed == name then return true end
    for _, pattern in ipairs(w.allow) do
        if name:find(pattern) then
            w.allowed = name
            return true
        end
    end
    return false
end

-- ---- the ends of tasks -----------------------------------------------------------------------

local function report(line) core.report(3, "mpengine worker: " .. line) end

--- Reports an error and pauses, but for the kill of the task, and signals.
local function bear(err)
    if core.signal_of(err) or errors.is(err) and err.kind == "killed" then error(err, 0) end
    report(errors.message(err))
    co.sleep(PAUSE)
end

-- What the server is to hear is in parcels, q.parcels, each for one script: `results` of tasks by the clients that have
-- submitted them, each a list of ids and bytes in turn; `others`, a list of kinds, ids and bytes; their count and
-- size. One that is sent gets no more; it is kept until it has arrived.

--- The parcel that takes an end.
local function parcel_for(q, size)
    local last = q.parcels[#q.parcels]
    if last and not last.is_sent and last.count < scripts.MOST and last.size + size <= BYTES then return last end
    last = { results = {}, others = {}, count = 0, size = 0 }
    table.insert(q.parcels, last)
    q.stir:set()
    return last
end

--- Tells the queue's loop how a task ended.
local function tell(q, owner, kind, id, bytes)
    local parcel = parcel_for(q, #bytes)
    parcel.count, parcel.size = parcel.count + 1, parcel.size + #bytes
    q.untold = q.untold + 1
    if kind == "v" then
        local list = parcel.results[owner]
        if not list then
            list = {}
            parcel.results[owner] = list
        end
        local n = #list
        list[n + 1], list[n + 2] = id, bytes
    else
        local n = #parcel.others
        parcel.others[n + 1], parcel.others[n + 2], parcel.others[n + 3] = kind, id, bytes
    end
end

--- A task that ran has ended.
local function ended(r, kind, bytes)
    local q = r.queue
    if not q.runs[r.id] then return end
    q.runs[r.id] = nil
    q.running = q.running - 1
    tell(q, r.owner, kind, r.id, bytes)
end

-- ---- running ---------------------------------------------------------------------------------

--- A task has ended in the local pool.
local function finished(r, bytes, took, err)
    local q = r.queue
    if bytes then
        q.took = (q.took or took) * 0.8 + took * 0.2
        return ended(r, outcome.is_well(bytes) and "v" or "e", bytes)
    end
    ended(r, err.kind == "worker_died" and "x" or "f", outcome.of_error(q.w.manager, err))
end

--- The timeout of the task in a message, or nil and why it is refused.
local function read(q, id, sealed)
    local from, why = core.envelope_open(q.w.key, q.place, id, sealed)
    if not from then return nil, "the task is refused: " .. why end
    local ok, _, timeout, expires, name = envelope.read_task(sealed, from)
    if not ok then return nil, "the task is refused: it is damaged" end
    if expires > 0 and expires < os.time() then return nil, "the task has expired" end
    if not is_allowed(q.w, name) then return nil, ("the worker does not allow '%s' (--allow)"):format(name) end
    return timeout
end

--- The client that has submitted a task: mostly that of the last one.
local function owner_of(q, id)
    if id:find(q.prefix, 1, true) ~= 1 then
        q.owner = id:match "^%S+"
        q.prefix = q.owner .. " "
    end
    return q.owner
end

--- Starts a task; run.tend must follow.
local function start(q, id, sealed)
    if q.runs[id] then return end
    local timeout, why = read(q, id, sealed)
    if not timeout then return tell(q, nil, "f", id, outcome.of_error(q.w.manager, { message = why })) end
    q.running = q.running + 1
    q.runs[id] = run.start(q.w.pool, q, id, owner_of(q, id), sealed, timeout)
end

--- How many tasks it may have: one for each process, and in advance what is short.
local function capacity(q)
    if q.w.stopping then return -1 end
    local ahead = q.took and math.min(MOST, AHEAD / q.took // 1 | 0) or 0
    return q.w.processes * (1 + ahead)
end

-- The queues of a worker share its processes, so the tasks of the others take room too, and one that found none is
-- hungry. A queue that took tasks last lets a hungry one take the next.

local function hungry_one(q)
    for _, other in ipairs(q.w.queues) do
        if other ~= q and other.is_hungry then return other end
    end
end

--- Does it ask for tasks now?
local function may_take(q) return q.w.last ~= q or not hungry_one(q) end

--- It has asked: `got` of its tasks, of so many that it may have.
local function share(q, took, got, most)
    if #q.w.queues == 1 or most < 0 then return end
    local running = 0
    for _, one in ipairs(q.w.queues) do running = running + one.running + one.untold end
    if took and got > 0 then q.w.last = q end
    q.is_hungry = not took or running >= most
    if took and q.is_hungry then return end
    for _, other in ipairs(q.w.queues) do
        if other ~= q and other.is_hungry then other.stir:set() end
    end
end

--- Adds what is in a parcel to the words for the server.
local function add_ends(words, q, parcel)
    local n = #words
    for owner, list in pairs(parcel.results) do
        local count = #list // 2
        words[n + 1], words[n + 2], words[n + 3] = "v", owner, count
        words[n + 4] = core.envelope_several(q.w.key, q.place, list, 1, count)
        for i = 1, count do words[n + 4 + i] = list[2 * i - 1] end
        n = n + 4 + count
    end
    local others = parcel.others
    for i = 1, #others, 3 do
        words[n + 1], words[n + 2] = others[i], others[i + 1]
        words[n + 3] = core.envelope_several(q.w.key, q.place, others, i + 1, 1)
        n = n + 3
    end
end

--- The tasks that this process knows: they run, or have ended.
local function known(q)
    local ids = {}
    for id in pairs(q.runs) do ids[#ids + 1] = id end
    for _, parcel in ipairs(q.parcels) do
        for _, list in pairs(parcel.results) do
            for i = 1, #list, 2 do ids[#ids + 1] = list[i] end
        end
        for i = 2, #parcel.others, 3 do ids[#ids + 1] = parcel.others[i] end
    end
    return ids
end

--- Starts what the server has given without this process having heard of it. A message that comes late is then
--- of a task that is known (q.resumed).
local function resume(q)
    local c = q.w.client
    q.resumed_at = core.now()
    for id, at in pairs(q.resumed) do
        if at < q.resumed_at - LATE then q.resumed[id] = nil end
    end
    repeat
        local tasks = c:run(true, scripts.RESUME, q.name, c.id, c:lease_ms(), table.unpack(known(q)))
        local heard = {}
        for _, id in ipairs(known(q)) do heard[id] = true end
        for i = 1, #tasks, 2 do
            if not heard[tasks[i]] then
                start(q, tasks[i], tasks[i + 1])
                q.resumed[tasks[i]] = q.resumed_at
            end
        end
        run.tend(q.w.pool)
    until #tasks == 0
end

--- Says what has ended, and asks for tasks. Returns when to ask again.
local function exchange(q)
    local c, parcel = q.w.client, q.parcels[1]
    local period, now = c.lease / 3, core.now()
    local is_time = now - q.looked_at >= period
    local most, take = capacity(q), may_take(q)
    local words = { "", "", "", "", q.name, c.id, c:lease_ms(), (take and most or math.min(most, 0)) .. q.others,
        q.w.place, is_time and 1 or 0 }
    if parcel then
        parcel.is_sent = true
        add_ends(words, q, parcel)
    end
    local tasks = c:evaluate(true, scripts.WORK, words)
    if is_time then q.looked_at = now end
    if parcel then
        table.remove(q.parcels, 1)
        q.untold = q.untold - parcel.count
    end
    for i = 3, #tasks, 2 do start(q, tasks[i], tasks[i + 1]) end
    run.tend(q.w.pool)
    share(q, take, #tasks - 2, most)
    local is_new = q.connection ~= c.connections.commands
    q.connection = c.connections.commands
    if is_new or tasks[2] > q.running + q.untold and core.now() - q.resumed_at >= period then resume(q) end
    return tasks[1] >= 0 and math.min(period, tasks[1] / 1000) or period
end

local function is_idle(q) return q.w.stopping and q.running == 0 and not q.parcels[1] end

--- The loop of a queue. An outage of the server, and one that refuses, end nothing: it is asked again.
local function serve(q)
    while not is_idle(q) do
        q.stir:clear()
        local ok, again = pcall(exchange, q)
        if not ok then
            bear(again)
        elseif not q.parcels[1] and not is_idle(q) then
            q.stir:wait(again)
        end
    end
    local c = q.w.client
    c:run(true, scripts.WORK, q.name, c.id, c:lease_ms(), -2, q.w.place, 0)
end

-- ---- messages --------------------------------------------------------------------------------

local function listen(w)
    local c = w.client
    for _, q in ipairs(w.queues) do
        c:listen("look:" .. q.name, function() q.stir:set() end)
        c:listen("task:" .. q.name, function(words)
            for i = 3, #words, 2 do
                local id = words[i]
                if not q.resumed[id] then start(q, id, words[i + 1]) end
                q.resumed[id] = nil
            end
            run.tend(w.pool)
        end)
    end
    c:listen("cancel", function(words)
        for _, q in ipairs(w.queues) do
            local r = q.runs[words[3]]
            if r then
                ended(r, "c", "")
                run.cancel(w.pool, r)
            end
        end
    end)
end

--- Reads messages, also after an outage.
local function read_messages(w)
    local wait <close> = w.client:wait()
    while true do
        local ok, err = pcall(w.client.await, w.client, wait)
        if not ok then bear(err) end
    end
end

-- ---- the worker ------------------------------------------------------------------------------

--- A manager of the server; one that cannot be reached is tried for ever.
local function connect(url, options)
    local told
    while true do
        local ok, manager = pcall(Manager, url, options)
        if ok then return manager end
        if not (errors.is(manager) and manager.kind == "disconnected") then error(manager, 0) end
        if not told then core.report(2, "mpengine worker: " .. manager.message .. "; trying again") end
        told = true
        co.sleep(1)
    end
end

--- The name of this machine.
local function host()
    local f <close> = io.open "/proc/sys/kernel/hostname"
    return f and f:read "l" or "?"
end

--- What runs at the end of the grace is stopped, and given back.
local function stop_late(w)
    for _, q in ipairs(w.queues) do
        for _, r in pairs(q.runs) do
            ended(r, "b", "")
            run.cancel(w.pool, r)
        end
    end
end

--- Takes no more tasks, ends those that run, and returns from run.
function worker.stop(w)
    if w.stopping then return end
    w.stopping = true
    for _, q in ipairs(w.queues) do q.stir:set() end
    w.late = co.spawn(function()
        co.joinall(w.loops, w.grace)
        stop_late(w)
        co.joinall(w.loops, FAREWELL)
        w.is_silent = true
        co.killall(w.loops)
    end)
end

--- The queues of a worker, each name once.
local function add_queues(w, names)
    for i, name in ipairs(names) do
        local others, is_known = {}, false
        for j, other in ipairs(names) do
            is_known = is_known or other == name and j < i
            if other ~= name then others[#others + 1] = " " .. other end
        end
        if not is_known then
            table.insert(w.queues, { w = w, name = name, others = table.concat(others), running = 0, runs = {},
                parcels = {}, untold = 0, stir = co.Event(), resumed = {}, resumed_at = core.now(), looked_at = 0,
                prefix = " ", ended = finished, place = ("%s/%s "):format(w.manager.namespace, name) })
        end
    end
end

--- Runs tasks until stop is called.
---@param url string
---@param options mpengine.remote.worker.Options
---@param started fun(w: table)? is called when it is ready
function worker.run(url, options, started)
    local manager = connect(url, options.manager)
    local c = client.of(manager)
    local key = envelope.key(manager.key_file)
    if not c.address.path and not options.allow then
        error("--allow is expected for TCP: which functions may be run, such as 'jobs.*'", 0)
    end
    if not key and not c.address.is_local then
        error(("%s is no server of this machine: --key-file is expected"):format(c.address.shown), 0)
    end
    c.timeout = math.huge -- a worker outlasts every outage
    local w = { manager = manager, client = c, key = key, processes = options.processes, grace = options.grace,
        queues = {}, place = ("%d %s"):format(options.processes, host()) }
    for i, text in ipairs(options.allow or {}) do
        w.allow = w.allow or {}
        w.allow[i] = pattern_of(text)
    end
    w.pool = Pool { processes = options.processes, initializer = job.open, initargs = { manager } }
    add_queues(w, options.queues)
    listen(w)
    c:keep_alive()
    local reader = co.spawn(read_messages, w)
    w.loops = {}
    for i, q in ipairs(w.queues) do w.loops[i] = co.spawn(serve, q) end
    if started then started(w) end
    co.joinall(w.loops)
    for _, loop in ipairs(w.is_silent and {} or w.loops) do loop:get() end
    reader:kill()
    if w.late then w.late:kill() end
    w.pool:terminate()
    w.pool:join()
    if w.is_silent then error("the server cannot be told that this worker goes: what ran is found by its lease", 0) end
end

return worker
