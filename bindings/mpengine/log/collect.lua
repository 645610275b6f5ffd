--- Records of the log from process to process. A process with handlers has an inbox, a queue that its
--- children inherit; they put their records into it, and so do children of children that have no
--- handlers of their own. A task of the process takes them out, in their order.
---
--- A process that is killed leaves what it has put, and nothing else.
local core = require "mpengine.core"
local errors = require "mpengine.errors"
local format = require "mpengine.log.format"

local collect = {}

local inbox, owner -- of this process, or of the one that it was forked from: owner is a pid
local upstream -- where the records of this process go
local guard -- luacheck: ignore 231

local function look()
    if inbox and owner ~= core.pid() then inbox, upstream = nil, inbox end
end

local function unpack(r)
    return {
        time = r[1], level = r[2], level_name = format.level_name(r[2]), name = r[3], message = r[4], process = r[5],
        pid = r[6],
    }
end

local function take_all(take)
    while true do take(unpack(inbox:get())) end
end

--- From now on take(record) is called with the records of the children that are started.
function collect.begin(take)
    look()
    if inbox then return end
    inbox, owner = core.makers.Queue { name = "records of the log" }, core.pid()
    core.spawn(take_all, take)
    collect.take = take
    -- A state that is closed, without the command's end of a program, finds the last ones too.
    guard = setmetatable({}, { __gc = function() pcall(collect.rest) end })
end

--- Takes what is there, at the end of the process.
function collect.rest()
    look()
    while inbox do
        local record = inbox:get(0)
        if not record then return end
        collect.take(unpack(record))
    end
end

--- Gives a record to the process above, if that collects them.
function collect.send(record)
    look()
    if not upstream then return end
    local good, why = pcall(upstream.put, upstream,
        { record.time, record.level, record.name, record.message, record.process, record.pid })
    if not good then
        core.write_error(("%s (not collected: %s)\n"):format(format.text(record), errors.message(why)))
    end
end

--- Do the records of this process go anywhere?
function collect.has_upstream()
    look()
    return upstream ~= nil
end

--- For a child in a new program: where it sends to; and there, that place.
function collect.place()
    look()
    return inbox or upstream
end

function collect.connect(queue) upstream = queue end

return collect
