--- Writes the trace format of Chrome: one event a line. Times are those of core.now, in ns.
local core = require "mpengine.core"
local _ENV <const> = core.globals -- luacheck: ignore

local json_text <const> = require("mpengine.json").shown

---@class mpengine.look.Chrome
---@field zero integer what the file calls 0
---@field out string[] the events
---@field flows integer how many arrows there are
local Chrome = {}
Chrome.__index = Chrome

local function us(self, at) return math.max(0, at - self.zero) / 1000 end

local function add(self, format, ...) self.out[#self.out + 1] = format:format(...) end

function Chrome:slice(name, cat, pid, tid, from, to, args)
    from = math.max(from, self.zero)
    add(self, '{"ph":"X","name":%s,"cat":"%s","pid":%d,"tid":%d,"ts":%.3f,"dur":%.3f%s}', json_text(name), cat, pid,
        tid, us(self, from), math.max(0, to - from) / 1000, args or "")
end

function Chrome:instant(name, cat, pid, tid, at)
    add(self, '{"ph":"i","s":"t","name":%s,"cat":"%s","pid":%d,"tid":%d,"ts":%.3f}', json_text(name), cat, pid, tid,
        us(self, at))
end

--- Something that begins ("b") or ends ("e") and does not nest with the slices of its thread.
function Chrome:span(ph, id, name, cat, pid, tid, at)
    add(self, '{"ph":"%s","id":"%x","name":%s,"cat":"%s","pid":%d,"tid":%d,"ts":%.3f}', ph, id, json_text(name), cat,
        pid, tid, us(self, at))
end

--- An arrow; from and to are { at, pid, tid }.
function Chrome:flow(name, cat, from, to)
    self.flows = self.flows + 1
    add(self, '{"ph":"s","id":%d,"name":"%s","cat":"%s","pid":%d,"tid":%d,"ts":%.3f}', self.flows, name, cat, from[2],
        from[3], us(self, from[1]))
    add(self, '{"ph":"f","bp":"e","id":%d,"name":"%s","cat":"%s","pid":%d,"tid":%d,"ts":%.3f}', self.flows, name, cat,
        to[2], to[3], us(self, math.max(to[1], from[1])))
end

--- The name of a process, or of a thread.
function Chrome:call(what, pid, tid, name)
    add(self, '{"ph":"M","name":"%s_name","pid":%d,"tid":%d,"args":{"name":%s}}', what, pid, tid, json_text(name))
end

--- The whole file.
function Chrome:text(program, pid, seconds, dropped, paused)
    local head = ('{"displayTimeUnit":"ns","otherData":{"program":%s,"pid":%d,"seconds":%.6g,"dropped":%d,'
        .. '"paused":%.6g},"traceEvents":[\n'):format(json_text(program), pid, seconds, dropped, paused)
    return head .. table.concat(self.out, ",\n") .. "\n]}\n"
end

return Chrome
