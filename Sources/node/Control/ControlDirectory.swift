import Foundation

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// A folder in which the nodes of one user have their control sockets, one each.
struct ControlDirectory: Equatable {
    static let suffix = ".sock"
    /// What fits into an address of a socket on all systems.
    static let pathBytesMax = 103
    /// Beyond this, entries of a folder are not looked at.
    private static let entriesMax = 1_000
    /// Only root makes folders beside it, so it belongs to whom root gave it.
    private static let system = "/run/dunlin"

    /// Without a slash at its end.
    let path: String

    /// Where a node puts its socket, the first that can be had, and where commands look for nodes, all of them.
    static func standard(environment: [String: String], userID: UInt32) -> [ControlDirectory] {
        var paths = [Self.system]
        if let runtime = environment["XDG_RUNTIME_DIR"], runtime.hasPrefix("/") { paths.append("\(runtime)/dunlin") }
        // Also where a command runs without the variables of a session, or the node does.
        paths += ["/run/user/\(userID)/dunlin", "/tmp/dunlin-\(userID)"]
        var seen = Set<String>()
        return paths.filter { seen.insert($0).inserted }.map { ControlDirectory(path: $0) }
    }

    func socket(_ name: String) -> String { "\(self.path)/\(name)\(Self.suffix)" }

    /// Makes the folder if it is not there, and sees to it that nobody else can put anything into it.
    func prepare(userID: UInt32) throws(ControlFailure) {
        if self.owner == nil {
            do {
                try FileManager.default.createDirectory(
                    atPath: self.path,
                    withIntermediateDirectories: false,
                    attributes: [.posixPermissions: 0o700]
                )
            } catch {
                throw ControlFailure("\(self.path) cannot be made: \(Self.reason(error))")
            }
        }
        guard let owner = self.owner, owner.isDirectory else { throw ControlFailure("\(self.path) is no folder") }
        guard owner.userID == userID else { throw ControlFailure("\(self.path) belongs to another user") }
        guard owner.isClosed else {
            throw ControlFailure("other users may write to \(self.path); its mode must be 0700 or 0755")
        }
    }

    /// Whether what lies in it was put there by this user, or by one whom root trusts with it.
    func isTrusted(by userID: UInt32) -> Bool {
        guard let owner = self.owner, owner.isDirectory, owner.isClosed else { return false }
        return owner.userID == userID || owner.userID == 0 || self.path == Self.system
    }

    /// The sockets in it, in order.
    var sockets: [String] {
        // It throws where there is no such folder, or it may not be looked at.
        let names = (try? FileManager.default.contentsOfDirectory(atPath: self.path)) ?? []
        return names.filter { $0.hasSuffix(Self.suffix) && !$0.hasPrefix(".") }.sorted().prefix(Self.entriesMax)
            .map { "\(self.path)/\($0)" }
    }

    private struct Owner {
        var userID: UInt32
        var isDirectory: Bool
        /// Only the owner may write to it.
        var isClosed: Bool
    }

    /// nil if there is nothing of that name. Of a symbolic link what it is itself, which is no folder.
    private var owner: Owner? {
        guard let attributes = try? FileManager.default.attributesOfItem(atPath: self.path) else { return nil }
        let mode = attributes[.posixPermissions] as? Int ?? 0o777
        return Owner(
            userID: (attributes[.ownerAccountID] as? Int).flatMap(UInt32.init(exactly:)) ?? .max,
            isDirectory: attributes[.type] as? FileAttributeType == .typeDirectory,
            isClosed: mode & 0o022 == 0
        )
    }

    /// What the system said, without Foundation's paraphrase of it.
    static func reason(_ error: any Error) -> String {
        let underlying = (error as NSError).userInfo[NSUnderlyingErrorKey] as? NSError
        guard let underlying, underlying.domain == NSPOSIXErrorDomain else { return error.localizedDescription }
        return String(cString: strerror(Int32(underlying.code)))
    }
}
