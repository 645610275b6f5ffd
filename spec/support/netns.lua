-- Two network namespaces and a cable between them, for partitions that are silent: no packet says that the other end
-- is gone. The user must be allowed to make them, as root is.
local netns = {}

netns.SERVER, netns.CLIENT = "10.77.0.1", "10.77.0.2" -- addresses of the two ends

local function run(...)
  local commands = { ... }
  for i, command in ipairs(commands) do commands[i] = "ip " .. command end
  local pipe = assert(io.popen("( " .. table.concat(commands, " && ") .. " ) 2>&1"))
  local text = pipe:read "a"
  return pipe:close() == true, text:gsub("%s+$", "")
end

--- Makes them: an object, or nil and why it is not possible. `id` is a name of the caller's, of at most 8 letters.
function netns.make(id)
  local net = { server = "mpe-" .. id .. "-s", client = "mpe-" .. id .. "-c" }
  local s, c = net.server, net.client
  local ok, why = run("netns add " .. s, "netns add " .. c,
    ("link add cable netns %s type veth peer name cable netns %s"):format(s, c),
    ("-n %s addr add %s/24 dev cable"):format(s, netns.SERVER),
    ("-n %s addr add %s/24 dev cable"):format(c, netns.CLIENT),
    ("-n %s link set lo up"):format(s), ("-n %s link set lo up"):format(c),
    ("-n %s link set cable up"):format(s), ("-n %s link set cable up"):format(c))
  if not ok then
    netns.remove(net)
    return nil, "network namespaces cannot be made: " .. why
  end
  return net
end

--- Cuts the cable, or joins it: `state` is "down" or "up".
function netns.cable(net, state) assert(run(("-n %s link set cable %s"):format(net.client, state))) end

--- The words before a command that runs at an end: "server" or "client".
function netns.at(net, place, ...) return { "ip", "netns", "exec", net[place], ... } end

function netns.remove(net)
  run("netns del " .. net.server)
  run("netns del " .. net.client)
end

return netns
