--- The scripts of pools. The tasks of a client are in a hash, by their numbers; the ready ones are in three
--- lists by priority, the delayed ones in a sorted set. A worker claims as many as it has room for, and those
--- that it has of a queue are in a hash, until it says how they ended: that moves the result to the stream of
--- the client, in the same step. A worker with room that found no task is in the list of idle ones, and a
--- task that comes is given to it at once.
---
--- What a worker was given in a reply that it never got stays in its hash: it asks for what it does not know
--- (RESUME) after its connection was lost, and when the hash has more tasks than it has. Each queue has the list
--- of its workers, and those that are alive, and submitters that hear nothing, look there for dead ones.
---
--- A task is named "client number". What is known of its runs goes with the name: how often its worker died,
--- how often that may be, the same for errors, and its priority.
local client = require "mpengine.remote.client"

local tasks = {}

-- ARGV: queue, client, lease
local COMMON <const> = [[
local queue, me, lease = ARGV[1], ARGV[2], tonumber(ARGV[3])
local at = now()
local IDLE, ROOM, LATER = P .. 'idle:' .. queue, P .. 'room:' .. queue, P .. 'later:' .. queue
local DEAD, WORKERS = P .. 'dead:' .. queue, P .. 'workers:' .. queue
local function runs(worker) return P .. 'runs:' .. queue .. ':' .. worker end
local function ready(priority) return P .. 'ready:' .. queue .. ':' .. priority end
local function parts(entry)
    return entry:match('^(%S+ %d+) (%d+) (%d+) (%d+) (%d+) (%d)$')
end
local function of(id) return id:match('^(%S+) (%d+)$') end
local function payload(id)
    local owner, number = of(id)
    return call('HGET', P .. 'tasks:' .. owner, number)
end
-- Messages are gathered, and go with one entry of a stream for each reader and kind.
local post = {}
local function send(to, kind, key, value)
    local name = to .. ' ' .. kind
    local list = post[name]
    if not list then
        list = {to, 'w', kind}
        post[name] = list
    end
    list[#list + 1] = key
    list[#list + 1] = value
    if #list > 500 then
        mail(unpack(list))
        post[name] = nil
    end
end
-- What happens in a queue is counted: submitted, done, failed, crashed (a process or a worker died).
local counts = {}
local function count(kind) counts[kind] = (counts[kind] or 0) + 1 end
local function send_all()
    for _, list in pairs(post) do mail(unpack(list)) end
    for kind, n in pairs(counts) do call('HINCRBY', P .. 'counts', queue .. ' ' .. kind, n) end
end
-- Without a payload the task was cancelled.
local function claim(worker, entry)
    local id = parts(entry)
    local bytes = payload(id)
    if bytes then call('HSET', runs(worker), id, entry) end
    return bytes, id
end
local function give_idle(entry)
    while true do
        local worker = call('LINDEX', IDLE, 0)
        if not worker then return false end
        if deadline(worker) > at then
            local bytes, id = claim(worker, entry)
            if not bytes then return true end
            send(worker, 'task:' .. queue, id, bytes)
            if call('HINCRBY', ROOM, worker, -1) <= 0 then
                call('LPOP', IDLE)
                call('HDEL', ROOM, worker)
            else
                call('RPUSH', IDLE, call('LPOP', IDLE))
            end
            return true
        end
        call('LPOP', IDLE)
        call('HDEL', ROOM, worker)
    end
end
local function put(entry, again)
    if give_idle(entry) then return end
    local list = ready(entry:sub(-1))
    if again then call('LPUSH', list, entry) else call('RPUSH', list, entry) end
end
-- The result is 'v' and bytes, or 'd': its worker is not heard of any more.
local function finish(id, result)
    local owner, number = of(id)
    if call('HDEL', P .. 'tasks:' .. owner, number) == 1 then send(owner, 'result', number, result) end
end
local function bury(id, why)
    local bytes = payload(id)
    if not bytes then return end
    call('LPUSH', DEAD, cmsgpack.pack({id = id, at = at, why = why, bytes = bytes}))
    call('LTRIM', DEAD, 0, 9999)
end
-- The worker died in the task: it runs again, or has failed.
local function crashed(entry, result)
    local id, crashes, retries, errors, more, priority = parts(entry)
    crashes = tonumber(crashes) + 1
    count('crashed')
    if crashes <= tonumber(retries) then
        put(table.concat({id, crashes, retries, errors, more, priority}, ' '), true)
        return
    end
    bury(id, result:sub(1, 1))
    finish(id, result)
end
local function failed(entry, bytes)
    local id, crashes, retries, errors, more, priority = parts(entry)
    errors = tonumber(errors) + 1
    if errors <= tonumber(more) then
        local pause = math.min(300000, 1000 * 2 ^ (errors - 1)) * (0.5 + (at % 1000) / 1000)
        call('ZADD', LATER, at + pause, table.concat({id, crashes, retries, errors, more, priority}, ' '))
        return
    end
    count('failed')
    finish(id, 'v' .. bytes)
end
local function reap()
    local last = tonumber(call('HGET', P .. 'looked', queue) or 0)
    if at - last < lease / 3 then return end
    call('HSET', P .. 'looked', queue, at)
    for _, gone in ipairs(call('HKEYS', WORKERS)) do
        if deadline(gone) <= at then
            local left = call('HVALS', runs(gone))
            call('DEL', runs(gone))
            call('HDEL', WORKERS, gone)
            for _, entry in ipairs(left) do crashed(entry, 'd') end
        end
    end
end
local function promote()
    for _, entry in ipairs(call('ZRANGEBYSCORE', LATER, '-inf', at, 'LIMIT', 0, 256)) do
        call('ZREM', LATER, entry)
        put(entry)
    end
end
-- What the worker was given by messages that it has not read yet is in its hash, and takes room.
local function claims(capacity)
    local out, room = {0, 0}, capacity - call('HLEN', runs(me))
    for priority = 0, 2 do
        local list = ready(priority)
        while #out <= 2 * room do
            local entry = call('LPOP', list)
            if not entry then break end
            local bytes, id = claim(me, entry)
            if bytes then
                out[#out + 1] = id
                out[#out + 1] = bytes
            end
        end
    end
    room = room - (#out - 2) / 2
    if room > 0 then
        call('HSET', ROOM, me, room)
        join(IDLE, me)
    else
        call('HDEL', ROOM, me)
        call('LREM', IDLE, 1, me)
    end
    local first = call('ZRANGE', LATER, 0, 0, 'WITHSCORES')
    out[1] = first[2] and math.max(1, math.ceil(first[2] - at)) or -1
    out[2] = call('HLEN', runs(me))
    return out
end
]]

-- ARGV: number of the step, numbers of steps that are over; then number, priority, delay in ms, retries, retries of
-- errors, payload of each task.
tasks.SUBMIT = client.script(COMMON .. [[
beat(me, lease, at)
if was_done(me, ARGV[4], ARGV[5]) then return 1 end
note_done(me, ARGV[4])
for i = 6, #ARGV, 6 do
    if call('HSETNX', P .. 'tasks:' .. me, ARGV[i], ARGV[i + 5]) == 1 then
        local entry = table.concat({me, ARGV[i], 0, ARGV[i + 3], 0, ARGV[i + 4], ARGV[i + 1]}, ' ')
        local delay = tonumber(ARGV[i + 2])
        count('submitted')
        if delay > 0 then
            call('ZADD', LATER, at + delay, entry)
            local idle = call('LINDEX', IDLE, 0)
            if idle then send(idle, 'task:' .. queue, 'look', '') end
        else
            put(entry)
        end
    end
end
send_all()
return 1
]])

-- ARGV: how many tasks the worker may have, its number of processes and its host, then what has ended: kind, id, bytes.
-- Kinds: v a result, e an error of the function, f another one, x its process died, b it is to be given back. {ms until
-- a delayed task, how many it has, id, payload, …}. It may have -1: no more, it ends what it has; -2: it goes, and has
-- none.
tasks.WORK = client.script(COMMON .. [[
local capacity = tonumber(ARGV[4])
beat(me, lease, at)
call('HSET', WORKERS, me, capacity < 0 and (ARGV[5]:gsub('^%d+', '0')) or ARGV[5])
for i = 6, #ARGV, 3 do
    local kind, id, bytes = ARGV[i], ARGV[i + 1], ARGV[i + 2]
    local entry = call('HGET', runs(me), id)
    if entry then
        call('HDEL', runs(me), id)
        if kind == 'v' or kind == 'f' then
            count(kind == 'v' and 'done' or 'failed')
            finish(id, 'v' .. bytes)
        elseif kind == 'e' then failed(entry, bytes)
        elseif kind == 'x' then crashed(entry, 'v' .. bytes)
        else put(entry, true) end
    end
end
reap()
promote()
if capacity < 0 then
    call('HDEL', ROOM, me)
    call('LREM', IDLE, 1, me)
    if capacity == -2 then
        local left = call('HVALS', runs(me))
        call('DEL', runs(me))
        call('HDEL', WORKERS, me)
        for _, entry in ipairs(left) do put(entry, true) end
    end
    send_all()
    return {-1, call('HLEN', runs(me))}
end
local out = claims(capacity)
send_all()
return out
]])

-- ARGV: the tasks that the worker knows. {id, payload, …} of some others that it has, none when it knows all. A reply
-- is short, so that it comes through a line on which a long one is cut each time.
tasks.RESUME = client.script(COMMON .. [[
beat(me, lease, at)
local known, out, size = {}, {}, 0
for i = 4, #ARGV do known[ARGV[i] ] = true end
for _, id in ipairs(call('HKEYS', runs(me))) do
    local bytes = not known[id] and payload(id)
    if bytes and size < 1024 then
        out[#out + 1] = id
        out[#out + 1] = bytes
        size = size + #id + #bytes
    elseif not known[id] and not bytes then
        call('HDEL', runs(me), id)
    end
end
return out
]])

-- ARGV: numbers. 0 for each that is neither waiting nor running.
tasks.CHECK = client.script(COMMON .. [[
beat(me, lease, at)
reap()
send_all()
local out = {}
for i = 4, #ARGV do out[#out + 1] = call('HEXISTS', P .. 'tasks:' .. me, ARGV[i]) end
return out
]])

-- ARGV: numbers. The tasks have no result; workers that run them are told.
tasks.CANCEL = client.script(COMMON .. [[
local workers = call('HKEYS', WORKERS)
for i = 4, #ARGV do
    if call('HDEL', P .. 'tasks:' .. me, ARGV[i]) == 1 then
        for _, worker in ipairs(workers) do
            if call('HEXISTS', runs(worker), me .. ' ' .. ARGV[i]) == 1 then
                send(worker, 'cancel', me .. ' ' .. ARGV[i], '')
            end
        end
    end
end
send_all()
return 1
]])

-- {processes of all workers, workers, ready, delayed, dead}
tasks.STATE = client.script(COMMON .. [[
local processes, workers = 0, 0
local all = call('HGETALL', WORKERS)
for i = 1, #all, 2 do
    local own = tonumber(all[i + 1]:match('^%d+'))
    if own > 0 and deadline(all[i]) > at then
        processes, workers = processes + own, workers + 1
    end
end
local waiting = 0
for priority = 0, 2 do waiting = waiting + call('LLEN', ready(priority)) end
return {processes, workers, waiting, call('ZCARD', LATER), call('LLEN', DEAD)}
]])

-- The dead letters, the newest first: {id, when in ms, how: v its process died, d its worker, payload} each.
tasks.DEAD = client.script(COMMON .. [[
local out = {}
for _, packed in ipairs(call('LRANGE', DEAD, 0, 999)) do
    local letter = cmsgpack.unpack(packed)
    out[#out + 1] = {letter.id, letter.at, letter.why, letter.bytes}
end
return out
]])

-- ARGV: retry or drop, then ids; without any all of them. How many there were.
tasks.BURIED = client.script(COMMON .. [[
local wanted, n = {}, 0
for i = 5, #ARGV do wanted[ARGV[i] ] = true end
for _, packed in ipairs(call('LRANGE', DEAD, 0, -1)) do
    local letter = cmsgpack.unpack(packed)
    if #ARGV == 4 or wanted[letter.id] then
        n = n + 1
        call('LREM', DEAD, 1, packed)
        if ARGV[4] == 'retry' then
            local owner, number = of(letter.id)
            call('HSET', P .. 'tasks:' .. owner, number, letter.bytes)
            put(letter.id .. ' 0 0 0 0 1')
        end
    end
end
send_all()
return n
]])

return tasks
