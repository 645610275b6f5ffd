--- What the command does with a server: `mpengine worker`, `dead`, `top` and `acl`. What fails raises, and main.lua
--- reports it; a wrong option is said here, with the usage, and is status 2.
local core = require "mpengine.core"
local mp = require "mpengine"

local USAGE <const> = {}

USAGE.worker = [=[
usage: mpengine worker [options] URL
Runs the tasks that programs submit to pools of the Redis server at URL, redis://HOST:PORT/DATABASE.
  -j N                 processes (as many as the machine has processors)
  --queue NAME         a queue whose tasks are run (default); may be repeated
  --allow PATTERN      names of functions that may be run, such as 'jobs.*'; may be repeated. For TCP it must be given
  --key-file FILE      the key that signs tasks
  --namespace NAME     of the manager (default)
  --ca FILE            certificates, for rediss://
  --lease S            seconds after which a worker that is not heard of is dead, 15
  --grace S            seconds that tasks have to end after SIGTERM, 30
  -h, --help           show this text
The URL may also be in MPENGINE_URL.
]=]

USAGE.dead = [=[
usage: mpengine dead list|retry|drop [options] URL [ID...]
Tasks whose worker died each time they ran: lists them, runs them again, or forgets them; without an ID all.
  --queue NAME         the queue (default)
  --namespace NAME     of the manager (default)
  --ca FILE            certificates, for rediss://
  -h, --help           show this text
Without an ID the URL may also be in MPENGINE_URL.
]=]

USAGE.top = [=[
usage: mpengine top [options] URL
The queues and workers of a namespace, with the tasks that ended, failed and crashed in a second. On a terminal the
picture is made again and again; else it is printed once, in plain lines.
  --interval S         seconds between pictures, over which is counted (1)
  -n N                 how many pictures
  --namespace NAME     of the manager (default)
  --ca FILE            certificates, for rediss://
  -h, --help           show this text
]=]

USAGE.acl = [=[
usage: mpengine acl NAMESPACE [USER]
Prints the command of Redis that makes a user of the server for this namespace and nothing else. USER is
mpengine-NAMESPACE by default, and PASSWORD in what is printed is to be replaced.
  -h, --help           show this text
]=]

local function number(text, least)
    local n = tonumber(text)
    return n and n >= least and n or nil
end

local function count(text) return math.tointeger(number(text, 1)) end
local function seconds(text) return number(text, 0) end
local function text_of(text) return text ~= "" and text or nil end

-- option -> field, how its text is read, what is expected; a list when it may be repeated
local OPTIONS <const> = {
    ["-j"] = { "processes", count, "a number of processes" },
    ["--queue"] = { "queues", text_of, "a name", list = true },
    ["--allow"] = { "allow", text_of, "a pattern", list = true },
    ["--key-file"] = { "key_file", text_of, "a file" },
    ["--namespace"] = { "namespace", text_of, "a name" },
    ["--ca"] = { "ca", text_of, "a file" },
    ["--lease"] = { "lease", seconds, "a number of seconds" },
    ["--interval"] = { "interval", function(text) return number(text, 0.1) end, "a number of seconds, 0.1 or more" },
    ["-n"] = { "count", count, "a number of pictures" },
    ["--grace"] = { "grace", seconds, "a number of seconds" },
}

--- The options and the other arguments, or nil and what is wrong.
local function parse(args)
    local o, i = { rest = {} }, 1
    while args[i] do
        local name, value = args[i]:match "^(%-%-[^=]+)=(.*)$"
        if not name then name, value = args[i]:match "^(%-%a)(.+)$" end -- -j4
        name = name or args[i]
        local option = OPTIONS[name]
        if name == "-h" or name == "--help" then return { help = true } end
        if not option then
            if name:sub(1, 1) == "-" then return nil, ("unrecognized option '%s'"):format(name) end
            table.insert(o.rest, name)
        else
            if not value then
                i = i + 1
                value = args[i]
            end
            local read = value and option[2](value)
            if not read then return nil, ("'%s' needs %s"):format(name, option[3]) end
            if option.list then
                o[option[1]] = o[option[1]] or {}
                table.insert(o[option[1]], read)
            else
                o[option[1]] = read
            end
        end
        i = i + 1
    end
    return o
end

--- Takes the URL from the arguments, or the environment.
local function take_url(o)
    o.url = table.remove(o.rest, 1) or os.getenv "MPENGINE_URL"
    if not o.url then return nil, "a URL is expected" end
    return o
end

local function manager_options(o)
    return { namespace = o.namespace, key_file = o.key_file, ca = o.ca, lease = o.lease }
end

local function wrong(verb, why)
    core.write_error(("mpengine %s: %s\n%s"):format(verb, why, USAGE[verb]))
    return 2
end

local function help(verb)
    io.write(USAGE[verb])
    return 0
end

local command = {}

--- The options of a verb that takes a URL and no more; nil and the exit status when there is nothing else to do.
local function parse_url(verb, args)
    local o, why = parse(args)
    if o and o.help then return nil, help(verb) end
    if o then o, why = take_url(o) end
    if o and #o.rest > 0 then o, why = nil, ("one URL expected, and there is also '%s'"):format(o.rest[1]) end
    if not o then return nil, wrong(verb, why) end
    return o
end

--- Runs a worker: the exit status.
---@param args string[]
---@return integer
function command.worker(args)
    local o, status = parse_url("worker", args)
    if not o then return status end
    local worker, notify = require "mpengine.remote.worker", require "mpengine.notify"
    local function stop(w)
        notify.stopping()
        worker.stop(w)
    end
    local told
    worker.run(o.url, {
        processes = o.processes or mp.cpu_count(), queues = o.queues or { "default" }, allow = o.allow,
        grace = o.grace or 30, manager = manager_options(o),
    }, function(w)
        for _, name in ipairs { "TERM", "INT" } do mp.signal(name, function() stop(w) end) end
        local shown = ("%d processes, %s"):format(w.processes, w.client.address.shown)
        core.report(3, "mpengine worker: " .. shown)
        told = notify.ready(shown)
    end)
    if told then told:close() end
    return 0
end

-- ---- dead letters ----------------------------------------------------------------------------

local HOW <const> = { v = "its process died", d = "its worker died" }

local function list_dead(run)
    local envelope = require "mpengine.remote.envelope"
    for _, letter in ipairs(run "DEAD") do
        local id, at, how, sealed = table.unpack(letter)
        local ok, _, _, _, name = envelope.read_task(sealed, envelope.content(sealed))
        io.write(("%s  %s  %s  %s\n"):format(id:gsub(" ", "/"), os.date("%Y-%m-%d %H:%M:%S", at // 1000),
            HOW[how] or how, ok and name or "?"))
    end
end

--- Lists, repeats or drops the tasks that killed their workers: the exit status.
---@param args string[]
---@return integer
function command.dead(args)
    local o, why = parse(args)
    if o and o.help then return help "dead" end
    local what = o and table.remove(o.rest, 1)
    if o and what ~= "list" and what ~= "retry" and what ~= "drop" then o, why = nil, "list, retry or drop expected" end
    if o then o, why = take_url(o) end
    if not o then return wrong("dead", why) end
    local manager = mp.Manager(o.url, manager_options(o))
    local c, scripts = require("mpengine.remote.client").of(manager), require "mpengine.remote.tasks"
    local function run(name, ...)
        return c:run(false, scripts[name], o.queues and o.queues[1] or "default", c.id, c:lease_ms(), ...)
    end
    if what == "list" then
        list_dead(run)
    else
        for i, id in ipairs(o.rest) do o.rest[i] = id:gsub("/", " ") end
        io.write(("%d tasks\n"):format(run("BURIED", what, table.unpack(o.rest))))
    end
    return 0
end

-- ---- looking on ------------------------------------------------------------------------------

--- Shows queues and workers: the exit status.
---@param args string[]
---@return integer
function command.top(args)
    local o, status = parse_url("top", args)
    if not o then return status end
    require("mpengine.remote.top").run(mp.Manager(o.url, manager_options(o)), o.interval or 1, o.count)
    return 0
end

-- ---- access ----------------------------------------------------------------------------------

local COMMANDS <const> = "auth ping select echo info|server client|setname eval evalsha script|load time get "
    .. "set setnx del exists incr decr pexpire persist getrange setrange hget hset hsetnx hdel hexists hlen "
    .. "hgetall hmget hvals hkeys hincrby hrandfield lpush rpush lpop lindex lpos lrange ltrim lset lrem "
    .. "llen zadd zrem zscore zrange zcount zrangebyscore zremrangebyscore zcard zpopmin xadd xread xtrim"

--- Prints the command that makes a user for one namespace: the exit status.
---@param args string[]
---@return integer
function command.acl(args)
    local o, why = parse(args)
    if o and o.help then return help "acl" end
    local namespace = o and o.rest[1]
    if not o or not namespace then return wrong("acl", why or "a namespace is expected") end
    if not namespace:find "^[%w_.-]+$" then return wrong("acl", "a namespace has letters, digits, '_', '.' and '-'") end
    local allowed = COMMANDS:gsub("%S+", "+%0")
    io.write(("ACL SETUSER %s on >PASSWORD resetkeys ~mp:{%s}:* resetchannels -@all %s\n"):format(
        o.rest[2] or "mpengine-" .. namespace, namespace, allowed))
    return 0
end

return command
