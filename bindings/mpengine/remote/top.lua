--- mpengine top URL: the queues and workers of a namespace, again and again. On a terminal it fills the screen until
--- it is stopped; else it prints one picture in plain lines.
local core = require "mpengine.core"
local mp = require "mpengine"
local client = require "mpengine.remote.client"

local top = {}

-- {queues, workers, living clients}. A queue: name, ready, delayed, dead, then pairs of a count and its name. A worker:
-- id, queue, "processes host", tasks it has, ms until its lease ends.
local PICTURE = client.script [[
local at, queues, by_name, workers = now(), {}, {}, {}
local all = call('HGETALL', P .. 'counts')
for i = 1, #all, 2 do
    local queue, kind = all[i]:match('^(%S+) (%S+)$')
    local q = by_name[queue]
    if not q then
        local ready = 0
        for priority = 0, 2 do ready = ready + call('LLEN', P .. 'ready:' .. queue .. ':' .. priority) / 2 end
        q = {queue, ready, call('ZCARD', P .. 'later:' .. queue), call('LLEN', P .. 'dead:' .. queue)}
        by_name[queue] = q
        queues[#queues + 1] = q
        local list = call('HGETALL', P .. 'workers:' .. queue)
        for j = 1, #list, 2 do
            local has = call('HLEN', P .. 'runs:' .. queue .. ':' .. list[j])
            workers[#workers + 1] = {list[j], queue, list[j + 1], has, deadline(list[j]) - at}
        end
    end
    q[#q + 1] = kind
    q[#q + 1] = tonumber(all[i + 1])
end
return {queues, workers, call('ZCOUNT', P .. 'live', at, '+inf')}
]]

---@class mpengine.remote.Picture
---@field at number seconds of core.now
---@field queues table[] name, ready, delayed, running, dead, workers, processes, done, failed, crashed
---@field workers table[] id, queue, host, processes, running, is_alive
---@field clients integer processes that are alive, with those of workers

local function queue_of(entry)
    local q = { name = entry[1], ready = entry[2], delayed = entry[3], dead = entry[4], running = 0, workers = 0,
        processes = 0, submitted = 0, done = 0, failed = 0, crashed = 0 }
    for i = 5, #entry, 2 do q[entry[i]] = entry[i + 1] end
    return q
end

--- What the server knows at this moment.
---@return mpengine.remote.Picture
function top.picture(c)
    local reply = c:run(true, PICTURE)
    local picture = { at = core.now(), queues = {}, workers = {}, clients = reply[3] }
    local by_name = {}
    for i, entry in ipairs(reply[1]) do
        picture.queues[i] = queue_of(entry)
        by_name[entry[1]] = picture.queues[i]
    end
    for i, entry in ipairs(reply[2]) do
        local processes, host = entry[3]:match "^(%d+) ?(.*)$"
        local w = { id = entry[1], queue = entry[2], host = host, processes = math.tointeger(tonumber(processes)),
            running = entry[4], is_alive = entry[5] > 0 }
        picture.workers[i] = w
        local q = by_name[w.queue]
        q.running = q.running + w.running
        if w.is_alive then q.workers, q.processes = q.workers + 1, q.processes + w.processes end
    end
    table.sort(picture.queues, function(a, b) return a.name < b.name end)
    table.sort(picture.workers, function(a, b)
        if a.queue ~= b.queue then return a.queue < b.queue end
        return a.id < b.id
    end)
    return picture
end

-- ---- text ------------------------------------------------------------------------------------

local function rate(q, before, kind, seconds)
    for _, old in ipairs(before.queues) do
        if old.name == q.name then return (q[kind] - old[kind]) / seconds end
    end
    return q[kind] / seconds
end

local function state_of(w)
    if not w.is_alive then return "not heard of" end
    return w.processes == 0 and "ends" or "works"
end

--- The lines of a picture; the rates are since another one.
---@return string[]
function top.lines(picture, before, title)
    local seconds = math.max(1e-3, picture.at - before.at)
    local lines = { ("%s  %d processes are heard of"):format(title, picture.clients), "",
        ("%-20s %8s %8s %8s %8s %8s %9s %9s %9s %9s"):format("QUEUE", "READY", "DELAYED", "RUNNING", "DEAD", "WORKERS",
            "PROCESSES", "DONE/S", "FAILED/S", "CRASHED/S") }
    for _, q in ipairs(picture.queues) do
        lines[#lines + 1] = ("%-20s %8d %8d %8d %8d %8d %9d %9.1f %9.1f %9.1f"):format(q.name, q.ready, q.delayed,
            q.running, q.dead, q.workers, q.processes, rate(q, before, "done", seconds),
            rate(q, before, "failed", seconds), rate(q, before, "crashed", seconds))
    end
    lines[#lines + 1] = ""
    lines[#lines + 1] = ("%-26s %-20s %-20s %9s %8s %s"):format("WORKER", "HOST", "QUEUE", "PROCESSES", "RUNNING",
        "STATE")
    for _, w in ipairs(picture.workers) do
        lines[#lines + 1] = ("%-26s %-20s %-20s %9d %8d %s"):format(w.id, w.host, w.queue, w.processes, w.running,
            state_of(w))
    end
    return lines
end

-- ---- the command -----------------------------------------------------------------------------

local CLEAR <const> = "\27[H\27[2J"

--- Shows pictures of a manager: `count` of them, or until the process is stopped.
---@param manager mpengine.remote.Manager
---@param interval number seconds
---@param count integer?
function top.run(manager, interval, count)
    local c = client.of(manager)
    local is_screen = core.isatty(1)
    count = count or not is_screen and 1 or math.huge
    local title = ("%s (%s)"):format(c.address.shown, manager.namespace)
    local before = top.picture(c)
    for _ = 1, count do
        mp.sleep(interval)
        local picture = top.picture(c)
        io.write(is_screen and CLEAR or "", table.concat(top.lines(picture, before, title), "\n"), "\n")
        io.flush()
        before = picture
    end
end

return top
