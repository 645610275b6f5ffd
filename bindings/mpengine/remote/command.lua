--- The command `mpengine worker`: its options, and the signals that end it.
local core = require "mpengine.core"
local mp = require "mpengine"
local errors = require "mpengine.errors"

local USAGE <const> = [=[
usage: mpengine worker [options] URL
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
    ["--grace"] = { "grace", seconds, "a number of seconds" },
}

--- The options, or nil and what is wrong.
local function parse(args)
    local o, i = {}, 1
    while args[i] do
        local name, value = args[i]:match "^(%-%-[^=]+)=(.*)$"
        name = name or args[i]
        local option = OPTIONS[name]
        if name == "-h" or name == "--help" then return { help = true } end
        if not option then
            if name:sub(1, 1) == "-" then return nil, ("unrecognized option '%s'"):format(name) end
            if o.url then return nil, ("one URL expected, and there is also '%s'"):format(name) end
            o.url = name
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
    o.url = o.url or os.getenv "MPENGINE_URL"
    if not o.url then return nil, "a URL is expected" end
    return o
end

local command = {}

--- Runs a worker: the exit status.
---@param args string[]
---@return integer
function command.worker(args)
    local o, why = parse(args)
    if not o then
        core.write_error(("mpengine worker: %s\n%s"):format(why, USAGE))
        return 2
    end
    if o.help then
        io.write(USAGE)
        return 0
    end
    local worker = require "mpengine.remote.worker"
    local ok, err = pcall(worker.run, o.url, {
        processes = o.processes or mp.cpu_count(), queues = o.queues or { "default" }, allow = o.allow,
        grace = o.grace or 30,
        manager = { namespace = o.namespace, key_file = o.key_file, ca = o.ca, lease = o.lease },
    }, function(w)
        for _, name in ipairs { "TERM", "INT" } do mp.signal(name, function() worker.stop(w) end) end
        core.report(3, ("mpengine worker: %d processes, %s"):format(w.processes, w.client.address.shown))
    end)
    if ok then return 0 end
    core.write_error("mpengine worker: " .. errors.message(err) .. "\n")
    return 1
end

return command
