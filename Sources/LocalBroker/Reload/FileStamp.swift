import Foundation

/// What tells a file's content apart from an earlier one without reading it: replaced, rewritten, or gone.
struct FileStamp: Sendable, Equatable {
    private var inode = ""
    private var size = ""
    private var modified = Date.distantPast

    /// The stamp of a file as it is now, the same for every file that is not there.
    init(path: String) {
        // Kubernetes and the like swap a link to a folder of new files: what counts is where it leads now.
        let target = URL(fileURLWithPath: path).resolvingSymlinksInPath().path
        // It throws for a file that is not there or may not be looked at.
        guard let attributes = try? FileManager.default.attributesOfItem(atPath: target) else { return }
        // Their types differ between systems; to compare them their text will do.
        self.inode = attributes[.systemFileNumber].map { "\($0)" } ?? ""
        self.size = attributes[.size].map { "\($0)" } ?? ""
        self.modified = attributes[.modificationDate] as? Date ?? .distantPast
    }
}
